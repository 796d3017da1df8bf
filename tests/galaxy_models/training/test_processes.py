"""Training in two processes under torchrun: they train what one process would, and all leave and resume together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_models.training import Processes, fit, this_process
from tests.galaxy_models.train_in_process import train
from tests.galaxy_models.training.regression import Regression, batches_from

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]

BASE: dict[str, Any] = {
    "preset": "base",
    "stamps": 2,
    "steps": 2,
    "checkpoint_steps": 9,
    "accumulate": 2,
    "ema_decay": 0.9,
}
"""The preset as it is, 100 M parameters: two processes take 6 GiB, a checkpoint 1.5."""


def in_two_processes(folder: Path, **options: Any) -> str:
    """What the training printed; its state is in the folder's checkpoint."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*command, "-m", "tests.galaxy_models.train_in_process", str(folder), json.dumps(options)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (process.returncode == 0) != ("stop" in options), process.stderr
    return process.stdout


def state(folder: Path) -> dict[str, Any]:
    """What the folder's checkpoint holds. The file goes, since pytest would keep those of three runs."""
    path = folder / "checkpoint.pt"
    content: dict[str, Any] = torch.load(path, weights_only=True, mmap=True)
    path.unlink()
    return content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes end with that nobody stops."""
    folder = tmp_path_factory.mktemp("undisturbed")
    in_two_processes(folder, **BASE)
    return state(folder)


def test_two_processes_follow_the_losses_of_one(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """The global batch is two batches of two; the learning rate and the average see the same steps."""
    train(tmp_path, **BASE)
    one = state(tmp_path)
    losses = [[point["loss"] for point in each["history"]] for each in (one, undisturbed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[0]) == BASE["steps"]
    for part in ("weights", "average"):
        for name, tensor in one[part].items():
            torch.testing.assert_close(undisturbed[part][name], tensor, msg=f"{part} {name}")


def test_base_stopped_under_two_processes_and_resumed_equals_an_undisturbed_run(
    undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """SIGTERM reaches one process only; both save and leave, and both carry on."""
    stopped = in_two_processes(tmp_path, stop=1, signal_number=int(signal.SIGTERM), **BASE)
    assert stopped.count(f"asked to stop; saved after step 1 of {BASE['steps']}") == 2
    resumed = in_two_processes(tmp_path, **BASE)
    assert resumed.split()[:2] == ["step", "2"]
    cut = state(tmp_path)
    assert cut["history"] == undisturbed["history"]
    for part in ("weights", "average"):
        for name, tensor in undisturbed[part].items():
            assert torch.equal(tensor, cut[part][name]), f"{part} {name}"


def test_a_step_is_shared_evenly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_process() == Processes() and Processes().leads
    for name, value in {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    assert this_process() == Processes(rank=5, count=6, nodes=2) and this_process().here == 3
    with pytest.raises(ValueError, match="`accumulate` is 4: 6 processes cannot share"):
        fit(
            Regression(),
            batches_from,
            steps=2,
            folder=tmp_path,
            checkpoint_steps=1,
            learning_rate=0.1,
            weight_decay=0.0,
            seed=0,
            accumulate=4,
        )
