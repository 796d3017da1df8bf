"""The same functions against a tracking server, which keeps the artifacts itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from infra.settings import Settings
from tasks.track.client import connect, served
from tasks.track.gate import decide_and_promote
from tasks.track.registry import list_models, load_registered, register, resolve
from tasks.track.runs import stage_run, survey_run_tracking


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own on a free port of this machine."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | quiet
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail((folder / "log").read_text()[-3000:])
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


@pytest.mark.slow
def test_runs_models_and_gate_over_http(server, survey, profile, package_with, tiny_result, tmp_path):
    settings = Settings(home=tmp_path / "home", sky=tmp_path, mlflow_uri=server)
    assert served(settings)
    frame = pd.DataFrame({"object_id": [f"g{i}" for i in range(40)], "label": "x"})
    versions = {}
    for scale, right in ((1.0, 0.0), (2.0, 1.0)):
        frame.assign(score=right).to_parquet(tmp_path / "evaluation.parquet")
        result = tiny_result(scale)
        result["evaluation"] = {
            "metric": "sim.accuracy",
            "higher_is_better": True,
            "scores": str(tmp_path / "evaluation.parquet"),
        }
        folder = tmp_path / f"stage-{scale:g}"
        with (
            survey_run_tracking(settings, survey, profile) as parent,
            stage_run(settings, survey, profile, "pretrain", f"{scale:g}", folder, parent=parent) as run,
        ):
            run.record(1, {"loss": scale})
            run.log_dataset("/data", "d" * 64)
            run.log_result(result)
            version = register(
                settings, "galaxy-lvm", result, stage_key=f"{scale:g}", run_id=run.run_id, package=package_with(scale)
            )
        versions[version] = decide_and_promote(settings, "galaxy-lvm", version, result["evaluation"]).outcome
        assert run.url == f"{server}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert versions == {"1": "bootstrap", "2": "better"}
    assert resolve(settings, "galaxy-lvm") == "2"
    assert [summary["aliases"] for summary in list_models(settings)] == [["challenger", "champion"], ["previous"]]
    images = np.zeros((1, 3, 32, 32), dtype=np.float32)
    for version in "121":  # fetched once, then from the home folder
        predictor = load_registered(settings, "galaxy-lvm", version)
        assert predictor.predict(images, "rgb", 0)["embedding"][0, 1] == float(version)
    assert len(list((tmp_path / "home" / "mlflow" / "models").iterdir())) == 2
    assert {file.path for file in connect(settings).list_artifacts(run.run_id)} >= {
        "result.json",
        "model",
        "evaluation",
    }
