"""Several batches in a step, and the moving average of the weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from galaxy_models.checkpoint import CheckpointError
from galaxy_models.training import Interrupted, Objective
from galaxy_models.training.averaging import WeightAverage, decay_after
from tests.galaxy_models.training.regression import Regression, batches_from, train


class Plain(Objective):
    """Linear, without any random number: its step depends on the stamps alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(4, 1)
        self.validated: dict[int, torch.Tensor] = {}

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        x = batch["x"]
        return (self.network(x).squeeze(1) - x.sum(dim=1)).square().mean(), {}

    def on_step_end(self, step: int) -> None:
        self.validated[step] = self.network.weight.detach().clone()


def pairs_from(first: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batch b holds the batches 2 b and 2 b + 1 of the other stream."""
    halves = batches_from(2 * first)
    while True:
        one, other = next(halves), next(halves)
        yield {name: torch.cat([one[name], other[name]]) for name in one}


def test_two_batches_in_a_step_are_one_of_twice_the_size(tmp_path: Path) -> None:
    """As far as sums in another order can be the same, which in bfloat16 they are not."""
    halves, history = train(tmp_path / "halves", Plain(), accumulate=2, bf16=False)
    whole, whole_history = train(tmp_path / "whole", Plain(), batches_from=pairs_from, bf16=False)
    torch.testing.assert_close(halves.state_dict(), whole.state_dict())
    assert [point["loss"] for point in history] == pytest.approx([point["loss"] for point in whole_history])


@pytest.mark.parametrize("stop", [3, 7])
def test_stopped_by_sigterm_between_two_batches_of_a_step_it_finishes_the_step(tmp_path: Path, stop: int) -> None:
    options = {"accumulate": 3, "ema_decay": 0.8}
    whole, history = train(tmp_path / "whole", **options)

    class Stopped(Regression):
        def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
            if step == stop and self.seen % 48 == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().training_step_at(step, batch, generator)

    with pytest.raises(Interrupted, match=rf"saved after step {stop + 1} of 20"):
        train(tmp_path / "cut", Stopped(), **options)
    resumed, resumed_history = train(tmp_path / "cut", **options)
    assert resumed_history == history and resumed.extra_state() == whole.extra_state() == {"seen": 20 * 3 * 16}
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_average_forgets_the_first_weights_at_once_and_then_slowly() -> None:
    assert [decay_after(updates, 0.5) for updates in (1, 2, 8, 9)] == pytest.approx([2 / 11, 3 / 12, 0.5, 0.5])
    weight = nn.Parameter(torch.tensor([100.0]))
    average = WeightAverage([weight], 0.999)
    expected = 0.0
    for step in range(30):
        with torch.no_grad():
            weight.fill_(float(step))
        average.update()
        expected = step if step == 0 else expected + (1 - decay_after(step, 0.999)) * (step - expected)
    with average.in_place():
        assert weight.item() == pytest.approx(expected)
    assert weight.item() == 29


def test_validation_and_the_trained_model_see_the_average(tmp_path: Path) -> None:
    averaged, _ = train(tmp_path / "averaged", Plain(), ema_decay=0.9)
    plain, _ = train(tmp_path / "plain", Plain())
    weights = torch.stack(list(plain.validated.values()))  # the average does not change what is averaged
    expected = weights[0]
    for step in range(1, 20):
        expected = torch.lerp(expected, weights[step], 1 - decay_after(step, 0.9))
        torch.testing.assert_close(averaged.validated[step], expected)
    torch.testing.assert_close(averaged.network.weight, expected)
    again, _ = train(tmp_path / "averaged", Plain(), ema_decay=0.9)
    assert torch.equal(again.network.weight, averaged.network.weight), "a finished run gives it again"


def test_both_are_part_of_what_a_checkpoint_is_of(tmp_path: Path) -> None:
    train(tmp_path)
    for change, message in (({"accumulate": 2}, "accumulate 1, now 2"), ({"ema_decay": 0.9}, "ema_decay 0.0, now 0.9")):
        with pytest.raises(CheckpointError, match=message):
            train(tmp_path, **change)


def test_a_checkpoint_from_before_they_existed_is_carried_on(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 12:
            raise StopError

    whole, _ = train(tmp_path / "whole")
    with pytest.raises(StopError):
        train(tmp_path / "old", progress=stop)
    path = tmp_path / "old" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    del content["average"], content["identity"]["accumulate"], content["identity"]["ema_decay"]
    torch.save(content, path)
    resumed, _ = train(tmp_path / "old")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
