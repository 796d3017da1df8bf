"""Runs in MLflow: parents and children, carried on after a kill, each point once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from infra.errors import GalaxyError
from tasks.track.client import connect, experiment
from tasks.track.runs import FlowRun, find_survey_run, stage_run, survey_run_tracking

KILLED = """
import sys, time
from pathlib import Path
from infra.profile import Profile
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.track.runs import stage_run
settings = Settings.model_validate_json(sys.argv[1])
survey = SurveyDefinition.model_validate_json(sys.argv[2])
folder = Path(sys.argv[3])
with stage_run(settings, survey, Profile(name="test"), "pretrain", "key", folder, flush_seconds=0.2) as run:
    for step in range(1, 7):
        run.record(step, {"loss": 1 / step})
        if step == 4:
            time.sleep(0.3)  # the next call sends; those after it wait
    print("recorded", flush=True)
    time.sleep(60)
"""


def history(settings, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in connect(settings).get_metric_history(run_id, key))


def test_survey_run_is_parent_of_its_stages(settings, survey, profile, tmp_path):
    flow = FlowRun("flow-1", "http://prefect/runs/flow-1")
    with survey_run_tracking(settings, survey, profile, flow=flow) as parent:
        assert find_survey_run(settings, survey.name, "flow-1").run_id == parent.run_id
        with stage_run(settings, survey, profile, "pretrain", "abc", tmp_path, parent=parent) as run:
            run.record(1, {"loss": 0.5})
            run.log_dataset("/data/stamps", "d" * 64)
        parent.link_stage("pretrain", tmp_path)
    client = connect(settings)
    child, top = client.get_run(run.run_id), client.get_run(parent.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    assert top.data.tags["stage.pretrain"] == run.run_id
    assert top.data.tags["prefect.flow_run_id"] == "flow-1"
    assert top.data.tags["prefect.flow_run_url"] == "http://prefect/runs/flow-1"
    assert child.data.tags["galaxy.stage_key"] == "abc"
    assert child.data.tags["dataset.digest"] == "d" * 64
    assert child.data.params["pretrain.mask_fraction"] == "0.6"
    [logged] = child.inputs.dataset_inputs
    assert json.loads(logged.dataset.source) == {"uri": "/data/stamps", "digest": "d" * 64}
    assert {child.info.status, top.info.status} == {"FINISHED"}
    assert find_survey_run(settings, survey.name, "other") is None
    assert find_survey_run(settings, survey.name, "") is None


def test_result_is_logged_with_figures_metrics_and_card(settings, survey, profile, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("model/card.json", "figure.png", "evaluation.parquet"):
        (tmp_path / name).write_text("{}")
    result = {
        "metrics": {"sim.psnr": 21.5, "loss": 0.2},
        "headline": "sim.psnr",
        "parameters": {"steps": 3},
        "figures": [str(tmp_path / "figure.png")],
        "model": str(tmp_path / "model"),
        "evaluation": {"metric": "sim.psnr", "higher_is_better": True, "scores": str(tmp_path / "evaluation.parquet")},
    }
    for _ in range(2):  # killed after logging and before the stage was marked as done: all is said again
        with stage_run(settings, survey, profile, "pretrain", "abc", tmp_path) as run:
            run.record(1, {"loss": 0.9})
            run.record(2, {"loss": 0.4})
            run.log_result(result)
    client = connect(settings)
    assert history(settings, run.run_id, "sim.psnr") == [(0, 21.5)]
    assert history(settings, run.run_id, "loss") == [(1, 0.9), (2, 0.4), (3, 0.2)]
    found = {file.path for part in ("", "figures", "model") for file in client.list_artifacts(run.run_id, part or None)}
    assert {"figures/figure.png", "model/card.json", "result.json", "survey.json", "profile.json"} <= found
    assert client.get_run(run.run_id).data.params["steps"] == "3"


def test_failure_and_interruption_are_told_apart(settings, survey, profile, tmp_path):
    client = connect(settings)
    for error, status in ((ValueError("no light"), "FAILED"), (KeyboardInterrupt(), "KILLED")):
        folder = tmp_path / status
        with pytest.raises(type(error)), stage_run(settings, survey, profile, "align", status, folder) as run:
            run.record(1, {"loss": 1.0})
            raise error
        found = client.get_run(run.run_id)
        assert found.info.status == status
        assert history(settings, run.run_id, "loss") == [(1, 1.0)]  # what was measured is not lost with it
    with stage_run(settings, survey, profile, "align", "FAILED", tmp_path / "FAILED") as again:
        pass
    found = client.get_run(again.run_id)
    assert found.info.status == "FINISHED"
    assert "galaxy.error" not in found.data.tags
    assert found.data.tags["galaxy.starts"] == "2"


def test_killed_stage_carries_on_in_the_same_run_and_repeats_no_point(settings, survey, profile, tmp_path):
    arguments = [settings.model_dump_json(), survey.model_dump_json(), str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "recorded"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("[7, 17000000")  # a line that the kill cut short
    killed = json.loads((tmp_path / "mlflow.json").read_text())["run_id"]
    client = connect(settings)
    assert client.get_run(killed).info.status == "RUNNING"
    before = history(settings, killed, "loss")
    assert 0 < len(before) < 6  # some were sent, some only written down
    with stage_run(settings, survey, profile, "pretrain", "key", tmp_path) as run:
        for step in range(3, 10):  # from the checkpoint at step 2
            run.record(step, {"loss": 1 / step})
    assert run.run_id == killed
    assert history(settings, killed, "loss") == [(step, 1 / step) for step in range(1, 10)]
    assert client.get_run(killed).info.status == "FINISHED"


def test_runs_of_dead_processes_are_closed(settings, survey, profile, tmp_path):
    program = KILLED.replace("time.sleep(60)", "import os; os._exit(9)")
    arguments = [settings.model_dump_json(), survey.model_dump_json(), str(tmp_path / "dead")]
    subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, timeout=120, check=False)
    dead = json.loads((tmp_path / "dead" / "mlflow.json").read_text())["run_id"]
    with (
        stage_run(settings, survey, profile, "align", "live", tmp_path / "live") as live,
        stage_run(settings, survey, profile, "finetune", "other", tmp_path / "other"),
    ):
        client = connect(settings)
        assert client.get_run(dead).info.status == "KILLED"
        assert client.get_run(live.run_id).info.status == "RUNNING"


def test_one_call_for_many_points(settings, survey, profile, tmp_path, monkeypatch):
    client = connect(settings)
    calls = []
    sent = client.log_batch
    monkeypatch.setattr(
        client, "log_batch", lambda *a, **k: (calls.append(len(a[1]) if len(a) > 1 else 0), sent(*a, **k))
    )
    with stage_run(settings, survey, profile, "pretrain", "abc", tmp_path, flush_seconds=1000) as run:
        calls.clear()
        for step in range(500):
            run.record(step, {"loss": 1.0, "rate": 0.1})
    assert calls == [1000]


def test_emptied_server_gets_a_new_run_with_the_whole_history(settings_of, survey, profile, tmp_path):
    first, second = settings_of(), settings_of()
    with stage_run(first, survey, profile, "pretrain", "abc", tmp_path) as old:
        old.record(1, {"loss": 0.9})
    with stage_run(second, survey, profile, "pretrain", "abc", tmp_path) as new:
        new.record(2, {"loss": 0.8})
    assert new.run_id != old.run_id
    assert history(second, new.run_id, "loss") == [(1, 0.9), (2, 0.8)]


def test_address_that_mlflow_no_longer_takes_is_refused(settings):
    with pytest.raises(GalaxyError, match="sqlite"):
        connect(settings.model_copy(update={"mlflow_uri": "file:///tmp/mlruns"}))


def test_import_is_fast_because_mlflow_and_torch_wait():
    program = "import sys, tasks.track.runs, tasks.track.gate; print({'mlflow', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"


def test_deleted_experiment_says_how_to_restore(settings, survey):
    number = experiment(settings, survey.name)
    connect(settings).delete_experiment(number)
    with pytest.raises(GalaxyError, match=f"restore -x {number}"):
        experiment(settings, survey.name)
