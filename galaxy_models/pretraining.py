"""Pre-training without labels: hide most of a galaxy, and have the network paint it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from .augment import Augmentation
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .masking import denormalise_patches, masked_l1, random_masks
from .pretext import Pretext
from .reobserve import Reobservation


class MaskedReconstruction(Pretext):
    """L1 on the hidden pixels of randomly masked, augmented stamps.

    Each channel's error is counted in units of that channel's spread, so that red does not outweigh blue.

    Parameters
    ----------
    mask_patch
        Side of a hidden patch, pixels of the network's input; a multiple of 4.
    normalise_target
        Compare what the network paints, in its own standardised units, with patches of mean 0 and variance 1 (He et al.
        2022), so that faint structure counts as much as bright cores. The input's sides must then be multiples of
        `mask_patch`, and what the network paints is a picture only after `as_picture`.
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
        normalise_target: bool = False,
        reobservation: Reobservation | None = None,
    ) -> None:
        super().__init__(network, inputs, units, augmentation, reobservation)
        self.mask_patch = mask_patch
        self.mask_fraction = mask_fraction
        self.normalised_patch = mask_patch if normalise_target else None

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss in units of the channels' spread, or of the patches'; and `masked_l1` of the picture in RGB units."""
        rgb = self.look(batch, generator)
        count, _, height, width = rgb.shape
        hidden = random_masks(count, height, width, self.mask_patch, self.mask_fraction, generator)
        painted = self.network(rgb, hidden)
        if self.normalised_patch is None:
            spread = cast(Tensor, self.network.rgb_spread).view(1, 3, 1, 1)
            loss = masked_l1(painted / spread, rgb / spread, hidden)
        else:
            loss = masked_l1(standardised(self.network, painted), rgb, hidden, self.normalised_patch)
        picture = as_picture(self.network, painted.detach(), rgb, hidden, self.normalised_patch)
        return loss, {"masked_l1": masked_l1(picture, rgb, hidden)}


def as_picture(
    network: GalaxyLVM, painted: Tensor, rgb: Tensor, hidden: Tensor, normalised_patch: int | None
) -> Tensor:
    """What the network painted as RGB (N, 3, h, w).

    A network that learnt normalised patches paints structure without level and contrast; both are taken from what is
    visible around (`denormalise_patches`), so that the picture, and its error, owe nothing to the hidden pixels.
    """
    if normalised_patch is None:
        return painted
    return denormalise_patches(standardised(network, painted), rgb, hidden, normalised_patch)


def standardised(network: GalaxyLVM, painted: Tensor) -> Tensor:
    """What the network painted, (N, 3, h, w), in the units of its last layer: mean 0 and spread 1 over the survey."""
    mean, spread = (cast(Tensor, each).view(1, 3, 1, 1) for each in (network.rgb_mean, network.rgb_spread))
    return (painted - mean) / spread


def measure_rgb(network: GalaxyLVM, rgb: Tensor) -> None:
    """Let the network standardise RGB by the mean and spread of `rgb`, (N, 3, h, w) of train stamps."""
    network.set_rgb_statistics(rgb.mean(dim=(0, 2, 3)), rgb.std(dim=(0, 2, 3)))
