"""Losses that arrive a step later, as those of a GPU do, change nothing that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_models.training import DivergedError, Objective, loop
from galaxy_models.training.loop import Reading
from tests.galaxy_models.training.regression import Regression, train


class Late(Reading):
    """Says that its numbers are on their way."""

    at_once = False  # type: ignore[assignment]


class Plain(Regression):
    """Nobody looks at its weights between steps."""

    on_step_end = Objective.on_step_end  # type: ignore[assignment]


class Breaks(Plain):
    """Its loss is no number at step 7."""

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        loss, metrics = super().training_step_at(step, batch, generator)
        return (loss * float("nan") if step == 7 else loss), metrics


def test_points_and_weights_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, history = train(tmp_path / "at_once", Plain())
    monkeypatch.setattr(loop, "Reading", Late)
    late, late_history = train(tmp_path / "late", Plain())
    assert late_history == history
    for mine, theirs in zip(late.parameters(), at_once.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("checkpoint_steps, kept", [(5, 5), (8, None)])
def test_a_loss_that_is_no_number_is_named_before_anything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_steps: int, kept: int | None
) -> None:
    """Step 8 would be saved right after the bad one."""
    monkeypatch.setattr(loop, "Reading", Late)
    with pytest.raises(DivergedError, match=r"nan at step 7, rows \[112, 113, .*127\]"):
        train(tmp_path, Breaks(), checkpoint_steps=checkpoint_steps)
    path = tmp_path / "checkpoint.pt"
    assert path.exists() == (kept is not None)
    if kept is not None:
        assert torch.load(path, weights_only=True)["step"] == kept


def test_where_weights_are_looked_at_no_loss_comes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An objective that validates between steps must not do so with weights that a bad loss has spoilt."""

    class Watched(Breaks):
        def on_step_end(self, step: int) -> dict[str, float] | None:
            self.ended.append(step)
            return None

    monkeypatch.setattr(loop, "Reading", Late)
    objective = Watched()
    with pytest.raises(DivergedError, match="nan at step 7"):
        train(tmp_path, objective)
    assert objective.ended == list(range(7))
