"""MLflow runs: one parent per survey run, one child per stage, carried on after a kill."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from infra.profile import Profile
from infra.settings import Settings
from infra.stage_folder import write_atomic
from tasks.ingest.survey import SurveyDefinition
from tasks.track.client import connect, experiment, run_url
from tasks.track.journal import MetricJournal

RUN_FILE = "mlflow.json"
JOURNAL_FILE = "metrics.jsonl"
HOST_TAG = "galaxy.host"
PROCESS_TAG = "galaxy.process"
PARAMETER_LENGTH = 6000


@dataclass(frozen=True)
class FlowRun:
    """The Prefect flow run that does the work; empty where there is none."""

    flow_run_id: str = ""
    url: str = ""

    def tags(self) -> dict[str, str]:
        """As tags of an MLflow run."""
        tags = {"prefect.flow_run_id": self.flow_run_id, "prefect.flow_run_url": self.url}
        return {name: value for name, value in tags.items() if value}


@dataclass(frozen=True)
class SurveyRun:
    """The parent run of one survey run."""

    settings: Settings
    experiment_id: str
    run_id: str

    @property
    def url(self) -> str:
        """Page of the run, or nothing where no server shows it."""
        return run_url(self.settings, self.experiment_id, self.run_id)

    def link_stage(self, stage: str, folder: Path) -> None:
        """Note which run did `stage`; call it for skipped stages too, so that the parent names all."""
        content = _read_run_file(folder)
        if content is not None:
            connect(self.settings).set_tag(self.run_id, f"stage.{stage}", content["run_id"])


@dataclass(frozen=True)
class StageRun:
    """The run of one stage; `record` is the stage's `Record`."""

    settings: Settings
    experiment_id: str
    run_id: str
    stage: str
    survey: str
    record: MetricJournal

    @property
    def url(self) -> str:
        """Page of the run, or nothing where no server shows it."""
        return run_url(self.settings, self.experiment_id, self.run_id)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters that are not there yet; MLflow never changes one."""
        from mlflow.entities import Param

        client = connect(self.settings)
        known = client.get_run(self.run_id).data.params
        fresh = [Param(k, str(v)[:PARAMETER_LENGTH]) for k, v in sorted(parameters.items()) if k not in known]
        for start in range(0, len(fresh), 100):
            client.log_batch(self.run_id, params=fresh[start : start + 100])

    def log_dataset(self, uri: str, digest: str) -> None:
        """Log the dataset that the stage reads or makes; its digest also becomes a tag to search by."""
        from tasks.track.dataset_source import dataset_input

        client = connect(self.settings)
        client.log_inputs(self.run_id, [dataset_input(self.survey, uri, digest, self.stage)])
        client.set_tag(self.run_id, "dataset.digest", digest)

    def log_result(self, result: Mapping[str, Any]) -> None:
        """Log what a stage returned: metrics, parameters, figures, dataset, model card, evaluation, and itself."""
        counts = {name: result[name] for name in ("objects", "accepted", "rows") if isinstance(result.get(name), int)}
        self.record.final({**counts, **result.get("metrics", {})})
        self.log_parameters(result.get("parameters", {}))
        if "headline" in result:
            connect(self.settings).set_tag(self.run_id, "galaxy.headline", str(result["headline"]))
        for key in ("dataset", "prepared"):
            if key in result:
                self.log_dataset(str(result[key]), str(result["digest"]))
        for figure in result.get("figures", []):
            self.log_file(Path(figure), "figures")
        if "model" in result:
            self.log_file(Path(result["model"]) / "card.json", "model")
        if "evaluation" in result:
            self.log_file(Path(result["evaluation"]["scores"]), "evaluation")
        for key in ("lenses", "proof"):
            if isinstance(result.get(key), str) and Path(result[key]).is_file():
                self.log_file(Path(result[key]), "catalogue")
        self.log_json(dict(result), "result.json")

    def log_file(self, path: Path, folder: str) -> None:
        """Log a file as an artifact in `folder`."""
        connect(self.settings).log_artifact(self.run_id, str(path), folder)

    def log_json(self, content: Mapping[str, Any], name: str) -> None:
        """Log JSON as the artifact `name`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text(json.dumps(dict(content), indent=2, sort_keys=True, default=str))
            connect(self.settings).log_artifact(self.run_id, str(path))


@contextmanager
def survey_run_tracking(
    settings: Settings, survey: SurveyDefinition, profile: Profile, *, flow: FlowRun = FlowRun(), name: str = ""
) -> Iterator[SurveyRun]:
    """The parent run of a survey run, open while the context lasts.

    It ends FINISHED, FAILED with the reason as tag `galaxy.error`, or KILLED. What a killed process
    left RUNNING on this machine is closed first.
    """
    client = connect(settings)
    experiment_id = experiment(settings, survey.name)
    close_abandoned(settings, experiment_id)
    run = client.create_run(
        experiment_id,
        run_name=name or f"{survey.name} {profile.name}",
        tags={**_tags(survey, profile), **flow.tags(), "galaxy.kind": "survey-run"},
    )
    with ending(settings, run.info.run_id):
        yield SurveyRun(settings, experiment_id, run.info.run_id)


def find_survey_run(settings: Settings, survey: str, flow_run_id: str) -> SurveyRun | None:
    """The parent run that the Prefect flow run of that id opened, if it did."""
    if not flow_run_id:
        return None
    experiment_id = experiment(settings, survey)
    found = connect(settings).search_runs(
        [experiment_id],
        f"tags.`prefect.flow_run_id` = '{flow_run_id}' AND tags.`galaxy.kind` = 'survey-run'",
        max_results=1,
    )
    return SurveyRun(settings, experiment_id, found[0].info.run_id) if found else None


@contextmanager
def stage_run(
    settings: Settings,
    survey: SurveyDefinition,
    profile: Profile,
    stage: str,
    key: str,
    folder: Path,
    *,
    parent: SurveyRun | str | None = None,
    flow: FlowRun = FlowRun(),
    flush_seconds: float = 5.0,
) -> Iterator[StageRun]:
    """The run of one stage, new or carried on.

    Parameters
    ----------
    stage, key
        Stage name and the key of its inputs.
    folder
        The stage's folder. It keeps the run's id and the metrics so far, so that a stage that was killed
        and is started again goes on in the same run.
    parent
        The survey run that it belongs to, or its run id; a carried-on run moves to the newest parent.
    """
    client = connect(settings)
    experiment_id = experiment(settings, survey.name)
    tags = {**_tags(survey, profile), **flow.tags(), "galaxy.kind": "stage"}
    tags |= {"galaxy.stage": stage, "galaxy.stage_key": key}
    if parent is not None:
        tags["mlflow.parentRunId"] = parent if isinstance(parent, str) else parent.run_id
    run_id = _carry_on(settings, experiment_id, folder, tags)
    if run_id is None:
        run_id = client.create_run(experiment_id, run_name=stage, tags=tags).info.run_id
        content = {"tracking_uri": settings.mlflow_uri, "experiment_id": experiment_id, "run_id": run_id}
        write_atomic(folder / RUN_FILE, json.dumps(content).encode())
    close_abandoned(settings, experiment_id)
    with ending(settings, run_id):
        journal = MetricJournal(client, run_id, folder / JOURNAL_FILE, flush_seconds)
        tracked = StageRun(settings, experiment_id, run_id, stage, survey.name, journal)
        try:
            tracked.log_parameters(_parameters(profile, stage))
            tracked.log_json(survey.model_dump(mode="json"), "survey.json")
            tracked.log_json(profile.model_dump(mode="json"), "profile.json")
            yield tracked
        except BaseException:
            with suppress(Exception):  # the first error is the one to show; the journal keeps the points
                journal.flush()
            raise
        else:
            journal.flush()
        finally:
            journal.close()


def close_abandoned(settings: Settings, experiment_id: str) -> list[str]:
    """Mark as KILLED every run that says RUNNING though its process on this machine is gone; their ids."""
    client = connect(settings)
    running = client.search_runs(
        [experiment_id], f"attributes.status = 'RUNNING' AND tags.`{HOST_TAG}` = '{socket.gethostname()}'"
    )
    dead = [run.info.run_id for run in running if not _alive(run.data.tags.get(PROCESS_TAG, ""))]
    for run_id in dead:
        client.set_terminated(run_id, "KILLED")
    return dead


@contextmanager
def ending(settings: Settings, run_id: str) -> Iterator[None]:
    """Close a run as FINISHED, FAILED with the reason as tag `galaxy.error`, or KILLED, when the context ends."""
    client = connect(settings)
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        with suppress(Exception):  # if MLflow is what failed, its error is already on its way
            client.set_tag(run_id, "galaxy.error", f"{type(error).__name__}: {error}"[:4000])
            client.set_terminated(run_id, status)
        raise
    client.set_terminated(run_id, "FINISHED")


def _carry_on(settings: Settings, experiment_id: str, folder: Path, tags: Mapping[str, str]) -> str | None:
    from mlflow.entities import RunTag
    from mlflow.exceptions import MlflowException

    content = _read_run_file(folder)
    if content is None or content["experiment_id"] != experiment_id:
        return None
    client = connect(settings)
    run_id = str(content["run_id"])
    try:
        run = client.get_run(run_id)
    except MlflowException:  # another server, or an emptied one
        return None
    if run.info.lifecycle_stage != "active":
        return None
    starts = int(run.data.tags.get("galaxy.starts", "1")) + 1
    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in {**tags, "galaxy.starts": str(starts)}.items()])
    if "galaxy.error" in run.data.tags:
        client.delete_tag(run_id, "galaxy.error")
    client.update_run(run_id, status="RUNNING")
    return run_id


def _read_run_file(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((folder / RUN_FILE).read_text()))
    except FileNotFoundError:
        return None


def _tags(survey: SurveyDefinition, profile: Profile) -> dict[str, str]:
    return {"galaxy.survey": survey.name, "galaxy.profile": profile.name, **process_tags()}


def process_tags() -> dict[str, str]:
    """Which code does the work, in which process of which machine."""
    tags = {
        "galaxy.version": version("galaxy-lvm"),
        HOST_TAG: socket.gethostname(),
        PROCESS_TAG: f"{os.getpid()}:{psutil.Process().create_time():.2f}",
    }
    commit = git_commit()
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def _parameters(profile: Profile, stage: str) -> dict[str, Any]:
    section = getattr(profile, stage.replace("-", "_"), None)
    content = section.model_dump(mode="json") if section is not None else {}
    return {**{f"{stage}.{name}": value for name, value in content.items()}, "threads": profile.threads}


def _alive(process: str) -> bool:
    """Whether the process `PID:start time` still runs; a number that has been given again does not count."""
    try:
        number, started = process.split(":")
        return abs(psutil.Process(int(number)).create_time() - float(started)) < 1
    except (ValueError, psutil.NoSuchProcess):
        return False


@cache
def git_commit() -> str:
    """Commit of the checkout that this code is run from, or nothing for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
