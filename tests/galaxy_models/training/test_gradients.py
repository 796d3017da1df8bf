"""What the loop does about a step's gradient before the optimiser moves by it: it is clipped, and has to be finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from galaxy_models.training import DivergedError, Objective, loop
from tests.galaxy_models.training.regression import Regression, train
from tests.galaxy_models.training.test_reading import Late, Plain


class Vertical(Plain):
    """Its loss at step 7 is finite and its gradient is not: the root of a sum of squares that are all zero."""

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        loss, metrics = super().training_step_at(step, batch, generator)
        layer = self.network[0]
        assert isinstance(layer, nn.Linear)
        return (loss + (0 * layer.weight).square().sum().sqrt() if step == 7 else loss), metrics


def is_finite(objective: Objective) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in objective.parameters())


@pytest.mark.parametrize("gradient_clip", [1.0, 0.0], ids=["clipped", "not clipped"])
def test_a_gradient_that_is_no_number_is_named_before_the_weights_move_by_it(
    tmp_path: Path, gradient_clip: float
) -> None:
    objective = Vertical()
    with pytest.raises(DivergedError, match=r"gradient is nan at step 7, objects galaxy-112, .*galaxy-127, though"):
        train(
            tmp_path,
            objective,
            gradient_clip=gradient_clip,
            ema_decay=0.9,
            object_ids=lambda rows: [f"galaxy-{row}" for row in rows],
        )
    assert is_finite(objective)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 5
    _, history = train(tmp_path, gradient_clip=gradient_clip, ema_decay=0.9)
    assert history[-1]["step"] == 19, "the checkpoint before it is good"


def test_all_batches_of_the_step_are_named(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as diverged:
        train(tmp_path, Vertical(), accumulate=2)
    assert f"at step 7, rows {list(range(14 * 16, 16 * 16))}, though" in str(diverged.value)


@pytest.mark.parametrize("checkpoint_steps, kept", [(5, 5), (8, None)])
def test_where_it_is_looked_at_later_it_is_still_named_before_anything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_steps: int, kept: int | None
) -> None:
    """As on a GPU. Step 8 would be saved right after the bad one."""
    monkeypatch.setattr(loop, "Reading", Late)
    with pytest.raises(DivergedError, match=r"gradient is nan at step 7, rows \[112, 113, .*127\], though"):
        train(tmp_path, Vertical(), checkpoint_steps=checkpoint_steps)
    path = tmp_path / "checkpoint.pt"
    assert path.exists() == (kept is not None)
    if kept is not None:
        assert torch.load(path, weights_only=True)["step"] == kept


def test_where_weights_are_looked_at_it_is_never_looked_at_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(Vertical):
        def on_step_end(self, step: int) -> dict[str, float] | None:
            self.ended.append(step)
            return None

    monkeypatch.setattr(loop, "Reading", Late)
    objective = Watched()
    with pytest.raises(DivergedError, match="gradient is nan at step 7"):
        train(tmp_path, objective)
    assert objective.ended == list(range(7)) and is_finite(objective)


@pytest.fixture
def norms() -> Iterator[list[float]]:
    """Norm of the gradient that the optimiser moved by, of each step."""
    seen: list[float] = []

    def note(optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        parts = [each.grad for group in optimiser.param_groups for each in group["params"] if each.grad is not None]
        seen.append(math.sqrt(sum(float(part.square().sum()) for part in parts)))

    hook = register_optimizer_step_post_hook(note)
    yield seen
    hook.remove()


def test_gradients_are_clipped_to_the_norm_and_smaller_ones_left_as_they_are(
    tmp_path: Path, norms: list[float]
) -> None:
    train(tmp_path / "free", Regression(), steps=1, gradient_clip=0.0)
    (free,) = norms
    train(tmp_path / "clipped", Regression(), steps=1, gradient_clip=free / 4)
    train(tmp_path / "small", Regression(), steps=1, gradient_clip=free * 4)
    assert norms[1:] == pytest.approx([free / 4, free], rel=1e-4)


def test_gradients_are_clipped_unless_it_is_switched_off(tmp_path: Path, norms: list[float]) -> None:
    class Steep(Regression):
        def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
            loss, metrics = super().training_step_at(step, batch, generator)
            return 1e4 * loss, metrics

    train(tmp_path, Steep())
    assert norms == pytest.approx([1.0] * 20, rel=1e-4)
