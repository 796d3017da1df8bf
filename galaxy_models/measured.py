"""Pre-training without labels by measurement: from an augmented view, tell what was measured on the stamp itself.

A network that is asked for a galaxy's axis ratio, concentration, arms and colours, of a picture that was turned,
resized and made noisier, learns to see shapes in spite of all that. Nobody has to label anything: the measures are
classical (`morphometry`), computed as the stamps come. It binds nothing that is learnt on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .augment import Augmentation
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .morphometry import MEASURES, measure
from .outline import outlined
from .pooling import mean_and_spread
from .pretext import Pretext
from .reobserve import Reobservation

LIMIT = 3.0
"""Standardised measures beyond it count as this: what is far out is most often a failed measurement."""


class MeasurementHead(nn.Module):
    """From the encoder's maps to standardised measures; used in pre-training only."""

    def __init__(self, lvm: GalaxyLVM) -> None:
        super().__init__()
        features = 2 * sum(lvm.channels)
        self.norm = nn.LayerNorm(features)
        self.last = nn.Linear(features, len(MEASURES))
        self.register_buffer("middle", torch.zeros(len(MEASURES)))
        self.register_buffer("spread", torch.ones(len(MEASURES)))

    def set_statistics(self, rgb: Tensor) -> None:
        """Set what measures are standardised with: median and standard deviation over `rgb`, (N, 3, h, h) as input."""
        values = measure(outlined(rgb))
        cast(Tensor, self.middle).copy_(values.median(dim=0).values)
        cast(Tensor, self.spread).copy_(values.std(dim=0).clamp_min(1e-3))

    def targets(self, rgb: Tensor) -> Tensor:
        """Standardised measures of (N, 3, h, h), (N, len(MEASURES)), within LIMIT."""
        values = (measure(outlined(rgb)) - cast(Tensor, self.middle)) / cast(Tensor, self.spread)
        return values.clamp(-LIMIT, LIMIT)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps of `GalaxyLVM.encode` to (N, len(MEASURES)) float32."""
        pooled = mean_and_spread(maps)
        with torch.autocast(pooled.device.type, enabled=False):
            return cast(Tensor, self.last(self.norm(pooled)))


class Measurement(Pretext):
    """Smooth L1 between the head's answer on a view and the standardised measures of the stamp.

    Parameters
    ----------
    head
        With its statistics set; it is trained along, and not kept.
    """

    def __init__(
        self,
        network: GalaxyLVM,
        head: MeasurementHead,
        inputs: InputSpec,
        units: str,
        *,
        augmentation: Augmentation,
        reobservation: Reobservation | None = None,
    ) -> None:
        super().__init__(network, inputs, units, augmentation, reobservation)
        self.head = head

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss, and `measures_explained`: the share of the measures' variance in the batch that the answers have."""
        wanted = self.head.targets(self.inputs.to_network(batch["images"], self.units))
        told = self.head(self.network.encode(self.look(batch, generator)))
        loss = functional.smooth_l1_loss(told, wanted)
        return loss, {"measures_explained": explained(told.detach(), wanted)}


def explained(told: Tensor, wanted: Tensor) -> Tensor:
    """One minus the squared error over the variance, the mean over measures (M) that vary among the (N, M)."""
    variance = (wanted - wanted.mean(dim=0)).square().mean(dim=0)
    error = (told - wanted).square().mean(dim=0)
    varies = variance > 1e-4
    left = torch.where(varies, error / variance.clamp_min(1e-12), 0.0)
    return 1 - left.sum() / varies.sum()  # not a number if none varies; no choice by value, which a GPU would wait for
