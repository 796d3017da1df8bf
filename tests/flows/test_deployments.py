"""prefect.yaml: each deployment names a flow that is there, takes its parameters, and explains its form."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.callables import parameter_schema

from tasks.chain import STAGES
from tasks.run_stage import WORK

PROJECT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


def module_and_name(deployment: dict[str, Any]) -> tuple[str, str]:
    path, name = deployment["entrypoint"].split(":")
    return path.removesuffix(".py").replace("/", "."), name


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    module, name = module_and_name(deployment)
    flow: Flow[..., Any] = getattr(import_module(module), name)
    return flow


def test_every_stage_the_whole_run_and_scoring_are_deployed() -> None:
    assert sorted(deployment["name"] for deployment in DEPLOYMENTS) == sorted([*STAGES, "survey-run", "score-search"])


def test_every_stage_has_its_work() -> None:
    assert tuple(WORK) == STAGES
    assert all(callable(resolve_name(place)) for place in WORK.values())


def test_flows_come_without_what_only_their_work_needs() -> None:
    """A run whose stages are done, and the worker that deploys them all, need not wait for PyTorch."""
    modules = sorted({module_and_name(deployment)[0] for deployment in DEPLOYMENTS})
    program = (
        f"import sys, {', '.join(modules)}; print([*{{'torch', 'lightning', 'mlflow', 'zarr'}} & {{*sys.modules}}])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_flow_accepts_the_deployment_and_explains_its_form(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    assert flow.name == deployment["name"]
    flow.validate_parameters(deployment["parameters"])
    fields = parameter_schema(flow).model_dump()["properties"]
    assert [fields[name]["position"] for name in fields] == list(range(len(fields)))
    for name, field in fields.items():
        assert len(field["description"]) > 10, name
        limits = {"minLength", "pattern", "minimum", "enum"} & set(field)
        assert limits, f"{deployment['name']}.{name} has no limits"


@pytest.mark.parametrize(
    ("name", "wrong"), [("pretrain", {"epochs": -1}), ("finetune", {"shares": "all"}), ("infer", {"alias": "best"})]
)
def test_forms_refuse_what_the_flow_cannot_do(name: str, wrong: dict[str, Any]) -> None:
    deployment = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == name)
    with pytest.raises(Exception, match=next(iter(wrong))):
        flow_of(deployment).validate_parameters({**deployment["parameters"], **wrong})


def test_nightly_schedule_is_created_paused() -> None:
    (schedule,) = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == "survey-run")["schedules"]
    assert schedule["active"] is False
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
