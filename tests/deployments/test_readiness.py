"""What `galaxy check` expects of a run: it grows with what is asked for, is measured, and leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console

from deployments import readiness
from deployments.readiness import expect_run, stamps_trained
from deployments.training_needs import TrainingNeeds, kept_for_backward, processes_of, step_cost, training_needs
from galaxy_models.training import Objective
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings, PretrainSettings, Profile, load_profile
from infra.settings import Settings
from tasks.train.trial_steps import Trial, trials_of
from tests.doubles.labelled_ellipses import survey_of

ROOT = Path(__file__).parents[2]
TRAINED = """
import sys
from pathlib import Path
from tests.galaxy_models.train_in_process import train

def peak():  # of this program alone; getrusage would tell that of the process that started it, if it is larger
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

before = peak()
train(Path(sys.argv[1]), preset="nano", stamps=128, size=64, steps=3)
print(before, peak())
"""


def test_more_objects_mean_more_pretraining_until_the_steps_run_out() -> None:
    profile = load_profile("laptop")
    small, large, larger = (stamps_trained(profile, objects) for objects in (100, 1_000_000, 2_000_000))
    batch = profile.pretrain.batch_size
    assert 0 <= small["pretrain"] - 70 * profile.pretrain.epochs < batch, "the last step is a whole one"
    assert large["pretrain"] == larger["pretrain"] == profile.pretrain.max_steps * batch
    assert small["finetune"] < large["finetune"] == larger["finetune"]
    assert small["find-lenses"] == large["find-lenses"]


class Squares(Objective):
    """Keeps its input once, and the result of the first operation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(5))

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        return ((batch["x"] * self.weight) ** 2).sum(), {}


CPU = torch.device("cpu")


def squares(looks: float = 0.0) -> Trial:
    return Trial(Squares(), lambda count: {"x": torch.ones(count, 5)}, looks=looks)


def test_a_step_is_measured_and_shared_among_its_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)  # a step seems to take one second
    assert step_cost(squares(), CPU, 32).seconds_per_stamp == 1 / 32, "a batch as large as the profile's"
    assert step_cost(squares(), CPU, 4000).seconds_per_stamp == 1 / 8, "or a small one, where that would take long"
    assert step_cost(squares(), CPU, 32).seconds_per_look == 0
    assert step_cost(squares(looks=0.1), CPU, 32).seconds_per_look == 1 / 32


def test_a_large_network_takes_two_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", itertools.count(step=30).__next__)
    asked: list[int] = []
    cost = step_cost(Trial(Squares(), lambda count: {"x": torch.ones(asked.append(count) or count, 5)}), CPU, 64)
    assert asked == [2, 4]
    assert cost.seconds_per_stamp == 30 / 4
    assert cost.batch_bytes == 2 * 64 * 5 * 4, "memory is told for the whole batch"


def test_what_a_graph_keeps_is_counted_once_and_without_the_weights() -> None:
    objective, x = Squares(), torch.ones(7, 5)
    with kept_for_backward(objective) as kept:
        objective.training_step_at(0, {"x": x}, torch.Generator())
    assert kept() == 2 * x.nbytes, "the input, and the product that is squared"


@pytest.mark.parametrize("units", ["rgb", "nanomaggy"])
@pytest.mark.parametrize("stage", ["pretrain", "finetune", "align", "find-lenses"])
def test_every_training_stage_can_be_tried(stage: str, units: str) -> None:
    profile = Profile(name="tiny", threads=1, pretrain=PretrainSettings(crop=32, binning=1))
    trials = trials_of(stage, profile, survey_of(units))
    assert sum(trial.share for trial in trials) == pytest.approx(1)
    for trial in trials:
        loss, _ = trial.objective.training_step_at(0, trial.batch(2), torch.Generator().manual_seed(0))
        loss.backward()
        assert torch.isfinite(loss)


KEPT: list[bytearray] = []


def hoard(stage: str, *_: Any) -> TrainingNeeds:
    """Measures nothing, and keeps what it took."""
    KEPT.append(bytearray(os.urandom(2**20)) * 256)
    return TrainingNeeds(stamps=1, seconds_per_stamp=1, state_bytes=1, batch_bytes=1)


def test_the_memory_of_the_trials_is_free_again_when_they_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = tmp_path / "mine.toml"
    survey.write_text(
        'name = "mine"\nunits = "nanomaggy"\nbands = ["g", "r", "z"]\nstamp_size = 152\n'
        '[[sources]]\nkind = "simulated"\nname = "drawn"\ncount = 20\n'
    )
    monkeypatch.setattr(readiness, "training_needs", hoard)
    console = Console(record=True, width=120)
    before = psutil.Process().memory_info().rss
    assert expect_run(console, Settings.from_environment(), str(survey), "laptop")
    assert psutil.Process().memory_info().rss - before < 2**27
    assert "trying a few steps of pretrain" in console.export_text()


@pytest.mark.slow
def test_the_memory_of_a_real_training_is_near_the_prediction(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", TRAINED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    before, peak = json.loads(f"[{process.stdout.replace(' ', ',')}]")
    settings = PretrainSettings(preset="nano", batch_size=128, crop=64, binning=1, pretexts={"masked": 1.0})
    needs = training_needs(
        "pretrain", Profile(name="tiny", threads=1, pretrain=settings), 1000, survey_of("rgb", stamp_size=80)
    )
    assert 1 / 1.5 < (peak - before) / needs.memory_bytes < 1.5
    assert 1 / 1.3 < peak / (before + needs.memory_bytes) < 1.3


def test_memory_grows_with_the_batch_and_the_average_and_time_with_the_stamps() -> None:
    def needs(stamps: float, **settings: Any) -> Any:
        content = PretrainSettings(crop=32, binning=1, **settings)
        return training_needs("pretrain", Profile(name="tiny", threads=1, pretrain=content), stamps, survey_of("rgb"))

    small, large, averaged = needs(100, batch_size=8), needs(100, batch_size=64), needs(100, ema_decay=0.9)
    assert large.batch_bytes > 6 * small.batch_bytes and large.state_bytes == small.state_bytes
    assert averaged.state_bytes == small.state_bytes * 5 / 4
    assert small.hours == pytest.approx(100 * small.seconds_per_stamp / 3600)


def test_processes_learn_at_the_same_time_and_wait_for_the_one_that_validates() -> None:
    needs = TrainingNeeds(
        stamps=3600,
        seconds_per_stamp=4,
        state_bytes=1,
        batch_bytes=1,
        validation_seconds_per_stamp=1,
        at_once=2,
        closing_seconds=1800,
    )
    assert needs.hours == pytest.approx(4 / 2 + 1 + 0.5)
    profile = Profile(name="tiny", finetune=FinetuneSettings(accumulate=3, processes=3))
    assert [processes_of(stage, profile) for stage in ("pretrain", "finetune", "align")] == [1, 3, 1]


def test_fewer_gpus_than_processes_are_told_before_any_step_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "two.toml"
    profile.write_text('name = "two"\n[finetune]\naccumulate = 2\nprocesses = 2\n')
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(readiness, "in_own_process", lambda *of: TrainingNeeds(1, 1, 1, 1))
    with pytest.raises(GalaxyError, match=r"section \[finetune\]: `processes` is 2, but there are 1 GPUs"):
        expect_run(Console(record=True), Settings.from_environment(), "embedded", str(profile))
