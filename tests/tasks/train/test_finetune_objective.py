"""What fine-tuning does to a stamp before it asks for its labels, and which stamps each of its processes gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.inputs import InputSpec
from galaxy_models.shares import TaskShares
from galaxy_models.training import Objective, Processes
from tasks.train.finetune_batches import BatchDrawer
from tasks.train.finetune_objective import MultiTaskObjective, unmeasured
from tests.doubles.uneven_sources import uneven_drawer


def test_parameters_are_learnt_from_stamps_that_still_have_them() -> None:
    """A turn changes neither size nor brightness nor the sense of a spiral; nothing else may happen to the galaxy."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    radius, azimuth = torch.hypot(x, y), torch.atan2(y, x)
    spiral = torch.exp(-radius / 4) * (1 + torch.cos(2 * (azimuth - 2 * torch.log(radius + 1)))) / 4
    stamps = spiral.expand(64, 3, 64, 64)
    inputs = InputSpec(("g", "r", "z"), 64, 64, 1, (0.2, 0.3), unknown_pixel_scale=True)
    views = augmented_input(stamps, "rgb", inputs, replace(unmeasured(Augmentation()), shift=0, noise=0), generator)

    def winding(images: torch.Tensor) -> torch.Tensor:
        phase = 2 * (azimuth - 2 * torch.log(radius + 1))
        against = 2 * (-azimuth - 2 * torch.log(radius + 1))
        power = [(images[:, 0] * torch.exp(1j * p)).sum(dim=(1, 2)).abs() for p in (phase, against)]
        return power[0] / power[1]

    assert (winding(views) > 2).all() and (winding(stamps.flip(3)) < 0.5).all()
    torch.testing.assert_close(views.sum(dim=(1, 2, 3)), stamps.sum(dim=(1, 2, 3)), rtol=0.06, atol=0)
    inside = [
        (images[:, 0] * (radius < 6)).sum(dim=(1, 2)) / images[:, 0].sum(dim=(1, 2)) for images in (views, stamps)
    ]
    torch.testing.assert_close(inside[0], inside[1], rtol=0.04, atol=0)  # a zoom of 15 % would change it by a fifth


class Watched(MultiTaskObjective):
    """Draws as it does, and trains nothing."""

    def __init__(self, drawer: BatchDrawer) -> None:
        Objective.__init__(self)
        self.drawer = drawer
        self.shares = TaskShares(drawer.tasks, smoothing=0.0)


def drawn(drawer: BatchDrawer, monkeypatch: pytest.MonkeyPatch, rank: int, count: int, steps: int, accumulate: int):
    """Task, source and rows of a process's batches, whose shares follow other scores after each step."""
    monkeypatch.setattr("tasks.train.finetune_objective.this_process", lambda: Processes(rank, count))
    objective = Watched(drawer)
    batches = objective.batches_from(0)
    found = []
    for step in range(steps):
        for _ in range(accumulate // count):
            batch = next(batches)
            found.append((batch["task"], batch.get("source"), batch["rows"].tolist()))
        objective.shares.update({task: (step + place) % 4 / 4 for place, task in enumerate(drawer.tasks)})
    return found, objective.extra_state()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_draw_what_one_would_and_know_whose_turn_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    one, state = drawn(uneven_drawer(tmp_path), monkeypatch, 0, 1, steps=12, accumulate=4)
    several = [
        drawn(uneven_drawer(tmp_path), monkeypatch, rank, count, steps=12, accumulate=4) for rank in range(count)
    ]
    assert [batch for batches in zip(*(found for found, _ in several), strict=True) for batch in batches] == one
    assert all(own == state for _, own in several)
    assert {source for _, source, _ in one} == {None, "near", "far"}
