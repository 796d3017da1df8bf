"""A batch that does not fit: the error names one that does, which has been tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_models.training import BatchTooLargeError
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


def test_where_nothing_fits_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(BatchTooLargeError, match="not even the smallest part of it fits; take a smaller preset"):
        train(tmp_path, Small(1))


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
    assert largest_fitting(objective, batch, plan, torch.device("cpu"), bf16=False, processes=2) == 3
    assert objective.tried == [9, 3], "5 and 4 do not divide 18"
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in objective.parameters())
