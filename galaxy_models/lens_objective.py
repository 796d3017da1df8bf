"""What the lens finder is trained for: arcs in their boxes and masks, and lens or not for the whole stamp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .augment import Augmentation, jitter_colours, random_geometry, transform
from .detection import LensFinder
from .inputs import InputSpec
from .training import Objective, encoder_groups

LEAST_MASK = 8
"""Pixels of an arc that must be left within the crop for its box to be learnt."""


class LensObjective(Objective):
    """Sum of Mask R-CNN's losses and the cross-entropy of the lens score, on augmented scenes.

    Parameters
    ----------
    units
        Of `batch["stamps"]`: `nanomaggy` or `rgb` (0..1).
    encoder_rate
        Learning rate of the pre-trained encoder relative to that of the new layers.
    layer_decay
        See `encoder_groups`.
    """

    def __init__(
        self,
        finder: LensFinder,
        inputs: InputSpec,
        units: str,
        augmentation: Augmentation,
        encoder_rate: float,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        self.finder = finder
        self.inputs = inputs
        self.units = units
        self.augmentation = augmentation
        self.encoder_rate = encoder_rate
        self.layer_decay = layer_decay

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The encoder moves more slowly than the layers that begin from nothing."""
        finder = self.finder
        fresh = (finder.pyramid, finder.proposer, finder.regions, finder.score)
        return [
            *encoder_groups(finder.encoder, self.encoder_rate, self.layer_decay),
            *({"module": module, "learning_rate_scale": 1.0} for module in fresh),
        ]

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss, and each of its terms.

        Parameters
        ----------
        batch
            `stamps` (N, C, H, W), `masks` (N, H, W) bool, `boxed` and `lens` (N,) bool.
        """
        # torchvision picks proposals with the global generator, which only a step's own seed makes repeatable
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
        self.finder.train()
        with torch.autocast(batch["stamps"].device.type, enabled=False):
            rgb, masks = self._augmented(batch["stamps"], batch["masks"], generator)
        boxed = batch["boxed"] & (~batch["masks"].flatten(1).any(1) | (masks.flatten(1).sum(1) >= LEAST_MASK))
        terms = self.finder.losses(rgb, masks, boxed, batch["lens"])
        loss = torch.stack(list(terms.values())).sum()
        return loss, {f"loss_{name}": term.detach() for name, term in terms.items()}

    def _augmented(self, stamps: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The network's RGB (N, 3, h, w) and the masks (N, h, w) bool, through one geometry."""
        geometry = random_geometry(len(stamps), self.augmentation, generator)
        rgb = self.inputs.to_rgb(transform(stamps, geometry, self.inputs.crop), self.units)
        covered = self.inputs.bin(transform(masks[:, None].float(), geometry, self.inputs.crop))
        return self.inputs.bin(jitter_colours(rgb, self.augmentation, generator)), covered[:, 0] > 0.5
