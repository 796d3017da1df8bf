"""A batch that does not fit: the error names one that does, which has been tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_models.training import BatchTooLargeError, Objective
from galaxy_models.training.memory import largest_fitting
from galaxy_models.training.plan import Plan
from tests.galaxy_models.training.regression import Regression, train


class Small(Regression):
    """On a device that has memory for so many stamps; it notes what was tried."""

    def __init__(self, most: int, error: type[RuntimeError] = torch.OutOfMemoryError, message: str = "CUDA") -> None:
        super().__init__()
        self.most, self.error, self.message = most, error, message
        self.tried: list[int] = []

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        self.tried.append(len(batch["x"]))
        if len(batch["x"]) > self.most:
            raise self.error(f"{self.message} out of memory, or can't allocate memory")
        return super().training_step_at(step, batch, generator)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError], ids=["CUDA", "CPU"])
def test_the_error_names_a_batch_size_that_was_tried_and_keeps_the_step(
    tmp_path: Path, error: type[RuntimeError]
) -> None:
    objective = Small(5, error)
    with pytest.raises(
        BatchTooLargeError, match=r"a batch of 16 stamps .*step 0.*`batch_size = 4` and `accumulate = 12`"
    ):
        train(tmp_path, objective, accumulate=3)
    assert objective.tried == [16, 8, 4]
    train(tmp_path, Small(16), accumulate=3)


def error_of(folder: Path, objective: Objective, stamps: int, **options: Any) -> str:
    """What a training is told whose batches have so many stamps."""

    def batches(start: int) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield {"x": torch.zeros(stamps, 4)}

    with pytest.raises(BatchTooLargeError) as told:
        train(folder, objective, batches_from=batches, **options)
    return str(told.value)


def test_the_size_is_the_profiles_where_the_batch_has_but_half_of_it(tmp_path: Path) -> None:
    """As those of restoration and reconstruction have in fine-tuning."""
    objective = Small(16)
    told = error_of(tmp_path, objective, 32, batch_size=64)
    assert "a batch of 32 stamps" in told
    assert "; 16 fit, as a trial just now showed: set `batch_size = 32` and `accumulate = 2`, which keeps" in told
    assert objective.tried == [32, 16]
    assert "set `batch_size = 2` and `accumulate = 6`" in error_of(
        tmp_path / "least", Small(1), 3, batch_size=6, accumulate=2
    )


@pytest.mark.parametrize(
    "stamps, most, advice",
    [
        (257, 128, "`batch_size = 128` and `accumulate = 6`, a step then has 768 stamps, not 771"),
        (257, 100, "`batch_size = 64` and `accumulate = 12`, a step then has 768 stamps, not 771"),
        (31, 30, "`batch_size = 15` and `accumulate = 6`, a step then has 90 stamps, not 93"),
        (3, 2, "`batch_size = 2` and `accumulate = 6`, a step then has 12 stamps, not 9"),
    ],
)
def test_a_batch_without_divisors_is_halved_all_the_same(tmp_path: Path, stamps: int, most: int, advice: str) -> None:
    assert advice in error_of(tmp_path, Small(most), stamps, accumulate=3)


def test_where_nothing_fits_it_is_said(tmp_path: Path) -> None:
    objective = Small(1)
    assert "; not even `batch_size = 2` fits; take a smaller preset" in error_of(tmp_path, objective, 18)
    assert objective.tried == [18, 9, 3, 2]
    assert "; `batch_size` can be no smaller; take a smaller preset" in error_of(tmp_path, Small(1), 2)


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    class Wrong(Regression):
        def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(tmp_path, Wrong())


def test_sizes_that_are_tried_divide_the_batch_and_the_trial_moves_no_weight() -> None:
    objective = Small(3)
    before = {name: tensor.clone() for name, tensor in objective.state_dict().items()}
    batch = {"x": torch.randn(18, 4), "task": "sum", "targets": {"y": torch.zeros(18)}}
    plan = Plan(10, 5, 0.1, 0.1, 1, 0)
    assert largest_fitting(objective, batch, 18, plan, torch.device("cpu"), bf16=False, processes=2) == 3
    assert objective.tried == [9, 3], "5 and 4 do not divide 18"
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in objective.parameters())
