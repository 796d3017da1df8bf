"""The methods that restoration is compared by, and how each is given its best numbers: on validation stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from galaxy_models.lvm import build_lvm
from galaxy_models.multitask import MultiTaskNetwork
from tests.evidence.deconvolution import RichardsonLucy, restored
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import Pairs, Space, apply, train
from tests.evidence.unet import PlainUNet
from tests.evidence.workbench import Workbench

NETWORKS = ("ours", "u_net")

VALIDATION_SEED, TEST_SEED, LEGACY_SEED = 71, 72, 73
"""Of the degradation of each set of stamps."""


@dataclass(frozen=True)
class Trainer:
    """Trains networks in a space, each in a folder of its own; one that was trained is taken up again.

    Attributes
    ----------
    section
        Of the evidence; part of the folders' names.
    training
        (n, 3, H, W) sharp images.
    """

    bench: Workbench
    section: str
    space: Space
    training: torch.Tensor
    sizes: Sizes

    @cached_property
    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and spread (3,) of what networks will see, over some training stamps."""
        values = self.space.values(self.space.pairs(self.training[:256], torch.Generator().manual_seed(0)))
        return values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3))

    def untrained(self, name: str, seed: int) -> nn.Module:
        """With weights of the seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if name == "u_net":
                return PlainUNet(*self.statistics, width=self.sizes.unet_width)
            lvm = build_lvm("nano")
            lvm.set_rgb_statistics(*self.statistics)
            return MultiTaskNetwork(lvm, ())

    def network(self, name: str, seed: int, steps: int, rate: float) -> nn.Module:
        """Trained for so many steps."""
        network = self.untrained(name, seed)
        folder = self.bench.folder / "training" / f"{self.section}-{name}-{seed}-{steps}-{rate:g}-{self.bench.code}"
        batch = self.sizes.batch
        train(
            network, self.space, self.training, steps=steps, batch=batch, learning_rate=rate, seed=seed, folder=folder
        )
        return network


def richardson_lucys(sizes: Sizes) -> list[RichardsonLucy]:
    """All that are tried."""
    return [RichardsonLucy(p, i) for p in sizes.pedestals for i in sizes.iterations]


def chosen(bench: Workbench, space: Space, pairs: Pairs, candidates: Sequence[Any], **key: Any) -> Any:
    """The candidate of the highest mean PSNR on validation stamps."""
    scores = [
        bench.cell(
            lambda each=each: {  # type: ignore[misc]
                "db": space.decibels(restored(each, pairs.degraded, pairs.degradation), pairs.sharp).tolist()
            },
            choosing=repr(each),
            tuned=len(pairs.sharp),
            **key,
        )
        for each in candidates
    ]
    return candidates[int(np.argmax([np.mean(score["db"]) for score in scores]))]


def chosen_rate(trainer: Trainer, validation: Pairs, name: str, *, steps: int, **key: Any) -> float:
    """The learning rate of the highest mean PSNR on validation stamps after a short training of a seed of its own."""
    scores = []
    for rate in trainer.sizes.rates:

        def measure(rate: float = rate) -> dict[str, float]:
            images = apply(trainer.network(name, 1000, steps, rate), trainer.space, validation)
            return {"db": float(trainer.space.decibels(images, validation.sharp).mean())}

        cell = trainer.bench.cell(measure, choosing=f"rate of {name}", rate=rate, steps=steps, **key)
        scores.append(cell["db"])
    return trainer.sizes.rates[int(np.argmax(scores))]
