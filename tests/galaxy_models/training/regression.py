"""A small training for the tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from galaxy_models.training import History, Objective, fit

STAMPS = 16


class Regression(Objective):
    """A small network with dropout that learns a noisy sum; it keeps a plain number of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.seen = 0
        self.ended: list[int] = []

    def training_step_at(self, step: int, batch: dict[str, Any], generator: torch.Generator) -> Any:
        self.seen += len(batch["x"])
        x = batch["x"] + 0.1 * torch.randn(batch["x"].shape, generator=generator)
        error = self.network(x).squeeze(1) - x.sum(dim=1)
        return error.square().mean(), {"absolute": float(error.detach().abs().mean())}

    def extra_state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]

    def on_step_end(self, step: int) -> dict[str, float] | None:
        self.ended.append(step)
        return {"seen": float(self.seen)} if step % 4 == 3 else None


def batches_from(start: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of noise; batch b is a function of b."""
    number = start
    while True:
        generator = torch.Generator().manual_seed(number)
        yield {"x": torch.randn(STAMPS, 4, generator=generator), "rows": torch.arange(STAMPS) + number * STAMPS}
        number += 1


def train(folder: Path, objective: Objective | None = None, **changes: Any) -> tuple[Objective, History]:
    """Train for 20 steps, with the changes to `fit`'s arguments."""
    objective = objective or Regression()
    settings: dict[str, Any] = {
        "steps": 20,
        "checkpoint_steps": 5,
        "learning_rate": 0.02,
        "weight_decay": 0.05,
        "seed": 3,
        "record_steps": 3,
        **changes,
    }
    batches: Callable[[int], Any] = settings.pop("batches_from", batches_from)
    return objective, fit(objective, batches, folder=folder, **settings)
