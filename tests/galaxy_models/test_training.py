"""The training loop: schedule, decay, resume bit for bit, and what happens when something goes wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from galaxy_models.checkpoint import CheckpointError
from galaxy_models.training import DivergedError, Interrupted, Objective, rate_at, step_seed
from tests.galaxy_models.training.regression import Regression, batches_from, train

SCRIPT = Path(__file__).parent / "train_in_process.py"


class StopError(Exception):
    """Stands for a kill inside the process."""


def stop_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str = "") -> None:
        if done == step:
            raise StopError

    return progress


def test_it_learns(tmp_path: Path) -> None:
    _, history = train(tmp_path, steps=150, learning_rate=0.05)
    assert history[-1]["loss"] < 0.4 * history[0]["loss"]


@pytest.mark.parametrize("stop", [3, 5, 7, 19])
def test_stopped_and_resumed_ends_with_the_same_weights_history_and_records(tmp_path: Path, stop: int) -> None:
    whole_records: list[Any] = []
    records: list[Any] = []
    whole, whole_history = train(tmp_path / "whole", record=lambda step, m: whole_records.append((step, dict(m))))
    with pytest.raises(StopError):
        train(tmp_path / "cut", progress=stop_at(stop), record=lambda step, m: records.append((step, dict(m))))
    resumed, history = train(tmp_path / "cut", record=lambda step, m: records.append((step, dict(m))))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert resumed.extra_state() == whole.extra_state()
    assert history == whole_history
    assert records == whole_records, "no point is lost or told twice"


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    calls: list[int] = []
    again, history = train(tmp_path, progress=lambda done, total, note="": calls.append(done))
    assert calls == [] and history[-1]["step"] == 19
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "ema_decay": 0.9}], ids=["plain", "averaged"])
def test_killed_in_the_middle_and_started_again_ends_bit_for_bit_the_same(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """A process that trains a real network with stochastic depth is killed by SIGKILL between two checkpoints."""
    process = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "cut"), json.dumps({"stop": 5, **options})],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == -signal.SIGKILL
    assert re.fullmatch(r"(step \d of 8 loss [\d.]+\n){5}", process.stdout), "Lightning prints nothing of its own"
    assert process.stderr == ""
    spec = importlib.util.spec_from_file_location("train_in_process", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    steps: list[int] = []
    resumed, history = script.train(tmp_path / "cut", lambda done, total, note="": steps.append(done), **options)
    whole, whole_history = script.train(tmp_path / "whole", **options)
    assert steps == [5, 6, 7, 8], "it carried on from the checkpoint of step 4"
    assert [point["loss"] for point in history] == [point["loss"] for point in whole_history]
    assert len(history) == 8
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def end_in_the_middle(number: int, frame: object) -> None:
    raise AssertionError("a handler of the process ended the step in its middle")


@pytest.mark.parametrize("handler", [signal.SIG_DFL, end_in_the_middle], ids=["default", "handled"])
def test_sigterm_saves_and_leaves(tmp_path: Path, handler: Any) -> None:
    def ask_to_stop(done: int, total: int, note: str = "") -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, _ = train(tmp_path / "whole")
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(Interrupted, match=r"saved after step 7 of 20") as stopped:
            train(tmp_path / "cut", progress=ask_to_stop)
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 128 + signal.SIGTERM
    steps: list[int] = []
    resumed, _ = train(tmp_path / "cut", progress=lambda done, total, note="": steps.append(done))
    assert steps[0] == 8, "nothing was lost"
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_batches_are_drawn_when_their_step_begins(tmp_path: Path) -> None:
    """What the batch of step k is may depend on what happened at the end of step k - 1."""
    objective = Regression()

    def watched(start: int) -> Iterator[dict[str, torch.Tensor]]:
        for step, batch in enumerate(batches_from(start), start):
            assert objective.ended == list(range(step))
            yield batch

    train(tmp_path, objective, batches_from=watched)


def test_a_loss_that_is_not_finite_stops_with_step_and_rows(tmp_path: Path) -> None:
    class Breaks(Regression):
        def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
            loss, metrics = super().training_step_at(step, batch, generator)
            return (loss * float("nan") if step == 7 else loss), metrics

    with pytest.raises(DivergedError, match=r"nan at step 7, rows \[112, 113, .*127\]"):
        train(tmp_path, Breaks())
    with pytest.raises(DivergedError, match=r"nan at step 7, objects galaxy-112, galaxy-113, .*galaxy-127; look at"):
        train(tmp_path, Breaks(), object_ids=lambda rows: [f"galaxy-{row}" for row in rows])
    _, history = train(tmp_path)
    assert history[-1]["step"] == 19, "the checkpoint before it is good"


def test_checkpoint_holds_no_code_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    path = tmp_path / "checkpoint.pt"
    torch.load(path, weights_only=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read.*delete it"):
        train(tmp_path)


def test_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(CheckpointError, match=r"steps 20, now 30"):
        train(tmp_path, steps=30)


def test_batches_that_end_early_are_an_error(tmp_path: Path) -> None:
    def short(start: int) -> Iterator[dict[str, torch.Tensor]]:
        for _, batch in zip(range(4), batches_from(start), strict=False):
            yield batch

    with pytest.raises(RuntimeError, match="ended before step 4 of 20"):
        train(tmp_path, batches_from=short)


def test_vectors_do_not_decay_and_groups_scale_the_rate(tmp_path: Path) -> None:
    """Without gradients AdamW moves a weight only by decay: by (1 - rate * decay) at each step."""

    class Idle(Objective):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.slow, self.fast = nn.Linear(3, 3), nn.Linear(3, 3)
            self.frozen = nn.Linear(3, 3).requires_grad_(False)

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [
                {"module": self.slow, "learning_rate_scale": 0.1},
                {"module": self.fast},
                {"module": self.frozen},
            ]

        def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
            return sum(parameter.sum() * 0 for parameter in self.parameters()), {}

    before, (after, _) = Idle(), train(tmp_path, Idle(), weight_decay=0.5, learning_rate=0.1, warmup=4)
    expected = {scale: 1.0 for scale in (0.1, 1.0)}
    for step in range(20):
        for scale in expected:
            expected[scale] *= 1 - 0.1 * scale * rate_at(step, 20, 4) * 0.5
    torch.testing.assert_close(after.slow.weight, before.slow.weight * expected[0.1])
    torch.testing.assert_close(after.fast.weight, before.fast.weight * expected[1.0])
    for layer in ("slow", "fast"):
        assert torch.equal(getattr(after, layer).bias, getattr(before, layer).bias)
    assert torch.equal(after.frozen.weight, before.frozen.weight)


def test_rate_warms_up_peaks_and_falls_to_a_hundredth() -> None:
    rates = [rate_at(step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1) and all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.505, abs=0.01) and rates[99] < 0.012


def test_step_seeds_differ_between_neighbours() -> None:
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(200)}
    assert len(seeds) == 6000


class Precision(Regression):
    """Notes whether its forward pass runs under bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        self.types.add(self.network(batch["x"]).dtype)
        return super().training_step_at(step, batch, generator)


@pytest.mark.parametrize(("has_units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_used_only_where_the_processor_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_units: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_units})
    objective = Precision()
    train(tmp_path, objective, steps=2, device="cpu")
    assert objective.types == {expected}
