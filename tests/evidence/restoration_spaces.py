"""Where restoration is done: on fluxes, where it is physics, and on pictures, where it is a look-alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galaxy_models.degradation import Degradation, draw_degradation, draw_display_degradation
from galaxy_models.flux_restoration import deconvolve, flux_loss, restore_flux, stretch
from galaxy_models.metrics import psnr, ssim
from galaxy_models.training import Objective, fit
from tasks.train.degraded_pairs import SEVERITY
from tests.evidence import image_measures
from tests.evidence.simulated import BANDS

Floats = NDArray[np.float64]
Restore = Callable[[Tensor], Tensor]

BATCH = 32
"""Of what is restored at once after training."""


@dataclass(frozen=True)
class Pairs:
    """Stamps and what became of them, (N, 3, h, w) each, and how."""

    sharp: Tensor
    degraded: Tensor
    degradation: Degradation

    def part(self, rows: slice) -> Pairs:
        """Some of them."""
        return Pairs(self.sharp[rows], self.degraded[rows], self.degradation.part(rows))


class Space(Protocol):
    """How pairs are made, restored and judged."""

    def pairs(self, images: Tensor, generator: torch.Generator) -> Pairs:
        """Degrade (N, 3, h, w) images."""

    def values(self, pairs: Pairs) -> Tensor:
        """What a network sees, (N, 3, h, w)."""

    def restore(self, restore: Restore, pairs: Pairs) -> Tensor:
        """What a network makes of them, (N, 3, h, w), as the images came."""

    def loss(self, restored: Tensor, pairs: Pairs) -> Tensor:
        """Scalar."""

    def decibels(self, images: Tensor, sharp: Tensor) -> Floats:
        """PSNR (N,)."""

    def similarity(self, images: Tensor, sharp: Tensor) -> Floats:
        """SSIM (N,)."""


@dataclass(frozen=True)
class FluxSpace:
    """Nanomaggies, with known seeing and noise.

    Attributes
    ----------
    dimmed
        Magnitudes by which each stamp is dimmed at most.
    noise
        Noise of a pixel that the images have already, (3,) nanomaggies.
    """

    dimmed: float
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def pairs(self, images: Tensor, generator: torch.Generator) -> Pairs:
        """Dimmed, under worse seeing and more noise, with the severity that fine-tuning has."""
        fainter = self.dimmed * torch.rand(len(images), 1, 1, 1, generator=generator)
        sharp = images * 10 ** (-0.4 * fainter)
        drawn = draw_degradation(len(images), BANDS, generator, severity=SEVERITY)
        present = torch.tensor(self.noise).expand(len(images), 3)
        return Pairs(sharp, drawn.apply(sharp, generator, noise=present), drawn)

    def values(self, pairs: Pairs) -> Tensor:
        """Deconvolved and stretched."""
        return stretch(deconvolve(pairs.degraded, pairs.degradation), pairs.degradation.noise)

    def restore(self, restore: Restore, pairs: Pairs) -> Tensor:
        """See `restore_flux`."""
        return restore_flux(restore, pairs.degraded, pairs.degradation)

    def loss(self, restored: Tensor, pairs: Pairs) -> Tensor:
        """See `flux_loss`."""
        return flux_loss(restored, pairs.sharp, pairs.degradation.noise)

    def decibels(self, images: Tensor, sharp: Tensor) -> Floats:
        """Each band's peak is its brightest true pixel."""
        return image_measures.decibels(images, sharp)

    def similarity(self, images: Tensor, sharp: Tensor) -> Floats:
        """In units of the same peaks."""
        return image_measures.similarity(images, sharp)


@dataclass(frozen=True)
class DisplaySpace:
    """Pictures in 0..1: no physics, and called so."""

    def pairs(self, images: Tensor, generator: torch.Generator) -> Pairs:
        """As fine-tuning degrades pictures."""
        drawn = draw_display_degradation(len(images), generator)
        return Pairs(images, drawn.apply(images, generator).clamp(0, 1), drawn)

    def values(self, pairs: Pairs) -> Tensor:
        """The picture as it is; networks are not told the kernel."""
        return pairs.degraded

    def restore(self, restore: Restore, pairs: Pairs) -> Tensor:
        """Clipped to what a picture can be."""
        return restore(pairs.degraded).clamp(0, 1)

    def loss(self, restored: Tensor, pairs: Pairs) -> Tensor:
        """Absolute error, in units of what the degradation did."""
        done = (pairs.degraded - pairs.sharp).abs().mean().clamp_min(1e-3)
        return (restored - pairs.sharp).abs().mean() / done

    def decibels(self, images: Tensor, sharp: Tensor) -> Floats:
        """The peak is full scale."""
        return psnr(images, sharp).double().numpy()

    def similarity(self, images: Tensor, sharp: Tensor) -> Floats:
        """Of full scale."""
        return ssim(images, sharp).double().numpy()


class Restoring(Objective):
    """Learns to restore new degradations of the training stamps, turned and mirrored.

    Parameters
    ----------
    network
        With a method `restore`, (N, 3, h, w) to the same.
    """

    def __init__(self, network: nn.Module, space: Space) -> None:
        super().__init__()
        self.network = network
        self.space = space

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """See `Objective`."""
        turn = int(torch.randint(8, (), generator=generator))
        images = torch.rot90(batch["images"], turn % 4, (2, 3))
        pairs = self.space.pairs(images.flip(3) if turn >= 4 else images, generator)
        restore: Any = self.network.restore
        return self.space.loss(self.space.restore(restore, pairs), pairs), {}


def train(
    network: nn.Module,
    space: Space,
    images: Tensor,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    folder: Path,
) -> None:
    """Train in place, with the product's loop; a run that was killed is carried on in its folder."""

    def batches_from(start: int) -> Iterator[dict[str, Any]]:
        step = start
        while True:
            rows = np.random.default_rng([seed, step]).integers(len(images), size=batch)
            yield {"images": images[torch.from_numpy(rows)], "rows": torch.from_numpy(rows)}
            step += 1

    fit(
        Restoring(network, space),
        batches_from,
        steps=steps,
        folder=folder,
        checkpoint_steps=max(50, steps // 10),
        learning_rate=learning_rate,
        weight_decay=0.05,
        seed=seed,
        threads=torch.get_num_threads(),
    )
    network.eval()


@torch.no_grad()
def apply(network: nn.Module, space: Space, pairs: Pairs) -> Tensor:
    """What a trained network makes of all pairs, on the CPU."""
    device = next(network.parameters()).device
    restore: Any = network.restore
    network.eval()
    return torch.cat(
        [
            space.restore(lambda values: restore(values.to(device)).cpu(), pairs.part(slice(start, start + BATCH)))
            for start in range(0, len(pairs.sharp), BATCH)
        ]
    )
