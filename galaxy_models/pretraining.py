"""Pre-training without labels: hide most of a galaxy, and have the network paint it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .augment import Augmentation, augmented_input
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .masking import masked_l1, random_masks
from .training import Objective


class MaskedReconstruction(Objective):
    """L1 on the hidden pixels of randomly masked, augmented stamps.

    Each channel's error is counted in units of that channel's spread, so that red does not outweigh blue.

    Parameters
    ----------
    units
        Of the raw stamps in `batch["images"]`: `nanomaggy` or `rgb`.
    mask_patch
        Side of a hidden patch, pixels of the network's input; a multiple of 4.
    """

    def __init__(
        self,
        network: GalaxyLVM,
        inputs: InputSpec,
        units: str,
        *,
        mask_patch: int,
        mask_fraction: float,
        augmentation: Augmentation,
    ) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.units = units
        self.mask_patch = mask_patch
        self.mask_fraction = mask_fraction
        self.augmentation = augmentation

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss in units of the channels' spread, and `masked_l1` in RGB units."""
        rgb = augmented_input(batch["images"], self.units, self.inputs, self.augmentation, generator)
        count, _, height, width = rgb.shape
        hidden = random_masks(count, height, width, self.mask_patch, self.mask_fraction, generator)
        painted = self.network(rgb, hidden)
        spread = cast(Tensor, self.network.rgb_spread).view(1, 3, 1, 1)
        loss = masked_l1(painted / spread, rgb / spread, hidden)
        return loss, {"masked_l1": float(masked_l1(painted.detach(), rgb, hidden))}


def measure_rgb(network: GalaxyLVM, rgb: Tensor) -> None:
    """Let the network standardise RGB by the mean and spread of `rgb`, (N, 3, h, w) of train stamps."""
    network.set_rgb_statistics(rgb.mean(dim=(0, 2, 3)), rgb.std(dim=(0, 2, 3)))
