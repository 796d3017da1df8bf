"""The whole chain, as a user runs it: complete, skipped the second time, and equal after kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from tests.end_to_end.home import Home, make_home

pytestmark = pytest.mark.slow

STAGES = ["ingest", "preprocess", "pretrain", "finetune", "align", "find-lenses", "infer"]
MODELS = ["galaxy-lvm", "galaxy-morphology", "galaxy-align", "galaxy-lens-finder"]


def digests(home: Home) -> dict[str, str]:
    return {stage: result.get("weights_digest") or result["digest"] for stage, result in home.results().items()}


def test_every_stage_is_done(finished: Home) -> None:
    assert sorted(finished.results()) == sorted(STAGES)


def test_second_run_does_no_work_and_says_so(finished: Home) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("result.json")}
    output = finished.run()
    assert "no work done again: " + ", ".join(STAGES) in " ".join(output.split())
    assert before == {path: path.stat().st_mtime_ns for path in finished.path.rglob("result.json")}


def test_catalogue_has_every_object_once(finished: Home) -> None:
    result = finished.results()["infer"]
    catalogue = pd.read_parquet(result["catalogue"])
    ingest = finished.results()["ingest"]
    assert len(catalogue) == ingest["accepted"]
    assert catalogue["object_id"].is_unique
    probabilities = catalogue.filter(regex="^p_")
    assert probabilities.notna().all().all()
    proof = json.loads((Path(result["catalogue"]).parent / "proof.json").read_text())
    assert ingest["objects"] == proof["rows_in"]
    exported = Table.read(Path(result["catalogue"]).with_suffix(".fits"))
    assert list(np.char.strip(np.asarray(exported["object_id"], dtype=str))) == list(catalogue["object_id"])


def await_work(process: subprocess.Popen[str]) -> None:
    """Read what a run prints until a stage works, and does not only say that it is done; or to its end."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(tuple(STAGES)) and "done before" not in line:
            return


def test_killed_at_any_moment_ends_with_the_same_digests(finished: Home, tmp_path: Path) -> None:
    """The first kill comes while the run starts, and makes its databases; the others while stages work."""
    home = make_home(tmp_path / "killed")
    pause = random.Random(7)
    kills = 0
    while kills < 3:
        process = home.start(*home.run_arguments())
        if kills:
            await_work(process)
        try:
            process.wait(timeout=20 * pause.random())
            break  # it came to its end between the kills
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    home.run()
    assert kills >= 1
    assert digests(home) == digests(finished)


def test_models_load_by_alias_in_a_clean_process(finished: Home, tmp_path: Path) -> None:
    script = tmp_path / "predict.py"
    script.write_text(
        """
import sys
import mlflow
import numpy as np

mlflow.set_tracking_uri(sys.argv[1])
images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
for name in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    answer = model.predict(images, params={"units": "rgb", "pixel_scale": 0.262})
    assert len(answer) == 2, answer
    print(name, *answer.columns)
    unknown, absurd = {"units": "counts", "pixel_scale": 0.262}, {"units": "rgb", "pixel_scale": 99.0}
    for wrong in ({}, {"units": "rgb"}, unknown, absurd):
        try:
            model.predict(images, params=wrong)
        except Exception as error:
            assert "legal" in str(error) or "give units" in str(error), error
        else:
            raise AssertionError(f"{name} accepted {wrong}")
"""
    )
    uri = f"sqlite:///{finished.path / 'mlflow' / 'mlflow.db'}"
    environment = {k: v for k, v in finished.environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(script), uri, *MODELS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    columns = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("galaxy-")}
    assert {"embedding", "measured_axis_ratio"} <= set(columns["galaxy-lvm"])
    assert "p_spiral" in columns["galaxy-morphology"]
    assert {"p_spiral", "embedding"} <= set(columns["galaxy-align"])
    assert {"lens_score", "boxes"} <= set(columns["galaxy-lens-finder"])


def test_a_stage_before_its_input_exists_names_the_command(tmp_path: Path) -> None:
    home = make_home(tmp_path / "early")
    done = home.galaxy(*home.run_arguments("pretrain"))
    assert done.returncode == 1
    assert "--stages" in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.results()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--survey", "nowhere"], ["unknown survey 'nowhere'", "embedded", "real_sky"]),
        (["run", "--profile", "nowhere"], ["unknown profile 'nowhere'", "laptop"]),
        (["run", "--stages", "ingest,digest"], ["no such stage: digest", "preprocess"]),
    ],
)
def test_wrong_names_are_refused_before_anything_starts(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    home = make_home(tmp_path / "wrong")
    done = home.galaxy(*arguments)
    assert done.returncode == 1
    for word in words:
        assert word in " ".join(done.stderr.split()), done.stderr
