"""Pairs for restoration: a stamp as the survey took it, and the same under worse seeing and more noise.

Fluxes are restored as fluxes, where blur and noise are known; pictures in display space, where nothing is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from galaxy_models.degradation import (
    FWHM_PER_SIGMA,
    SEEING,
    Degradation,
    degrade_display,
    draw_degradation,
)
from galaxy_models.flux_restoration import flux_loss
from galaxy_models.inputs import InputSpec, centre
from galaxy_models.multitask import DISPLAY, FLUX, MultiTaskNetwork
from infra.errors import GalaxyError
from tasks.train.observed import observed_conditions

SEVERITY = 1.5
"""Fluxes are made half as bad again as the survey's own spread, so that nearly every stamp is degraded."""

FAINTEST_PEAK = 0.01
"""Nanomaggies; a band that is nowhere brighter is empty, and its errors are told in this unit."""


@dataclass(frozen=True)
class Pair:
    """Stamps as they are and degraded.

    Attributes
    ----------
    degraded, original
        (N, 3, h, w).
    degradation
        What was done to them, where that is known.
    whole
        (N, 3, H, W) the degraded stamps with what lies around, where the two are only their middle.
    """

    degraded: Tensor
    original: Tensor
    degradation: Degradation | None = None
    whole: Tensor | None = None

    def turned(self, generator: torch.Generator) -> Pair:
        """Both turned by the same quarter turns and mirrored alike: pixels stay pixels, so no blur is added."""
        draw = int(torch.randint(8, (), generator=generator, device=generator.device))

        def turn(images: Tensor) -> Tensor:
            images = torch.rot90(images, draw % 4, (2, 3))
            return images.flip(3) if draw >= 4 else images

        whole = None if self.whole is None else turn(self.whole)
        return Pair(turn(self.degraded), turn(self.original), self.degradation, whole)


class DegradedPairs(ABC):
    """Makes the pairs of a survey, has a network restore them, and judges what came of it."""

    space: ClassVar[str]
    """`flux` or `display`."""

    @abstractmethod
    def make(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Pair:
        """Of (N, C, H, W) raw stamps and their (N,) catalogue rows."""

    @abstractmethod
    def restored(self, network: MultiTaskNetwork, pair: Pair) -> Tensor:
        """(N, 3, h, w) float32: what the network makes of the degraded ones."""

    @abstractmethod
    def loss(self, restored: Tensor, pair: Pair) -> Tensor:
        """What training lowers; a scalar that pulls as hard as other tasks' losses."""

    @abstractmethod
    def error_left(self, degraded: Tensor, restored: Tensor, original: Tensor) -> float:
        """Share of the degraded images' error that is left; 0 is perfect, 1 as if nothing had been done."""

    @abstractmethod
    def levels(self, images: Tensor, original: Tensor) -> Tensor:
        """(N, 3, h, w) in units in which the original's brightest is one, as PSNR and SSIM take them."""

    @abstractmethod
    def picture(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) RGB in 0..1, to be looked at."""


@dataclass(frozen=True)
class DisplayPairs(DegradedPairs):
    """Of published pictures, as the network sees them: a look-alike of seeing and noise, which nobody is told."""

    inputs: InputSpec
    space = DISPLAY

    def make(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Pair:
        """See `DegradedPairs`; h and w are those of the network's input."""
        rgb = self.inputs.to_rgb(images, "rgb")
        degraded = degrade_display(rgb, generator)
        return Pair(self.inputs.to_network(degraded, "rgb"), self.inputs.to_network(rgb, "rgb"))

    def restored(self, network: MultiTaskNetwork, pair: Pair) -> Tensor:
        """See `DegradedPairs`; not clipped."""
        return network.restore(pair.degraded).float()

    def loss(self, restored: Tensor, pair: Pair) -> Tensor:
        """Absolute error, in units of what the degradation did."""
        done = (pair.degraded - pair.original).abs().mean().clamp_min(1e-3)
        return (restored - pair.original).abs().mean() / done

    def error_left(self, degraded: Tensor, restored: Tensor, original: Tensor) -> float:
        """Of the absolute error of all pixels, after clipping."""
        error, before = ((images.clamp(0, 1) - original).abs().mean() for images in (restored, degraded))
        return float(error / before.clamp_min(1e-6))

    def levels(self, images: Tensor, original: Tensor) -> Tensor:
        """Full scale is one."""
        return images.clamp(0, 1)

    def picture(self, images: Tensor) -> Tensor:
        """As they are."""
        return images.clamp(0, 1)


@dataclass(frozen=True)
class FluxPairs(DegradedPairs):
    """Of fluxes: in pixels of the survey, whatever binning the network's other tasks have.

    Attributes
    ----------
    bands
        Of the channels, blue to red.
    seeing, noise
        (rows of the catalogue, bands): PSF sigma in pixels, pixel noise in nanomaggies; NaN unknown.
    pixel_scale
        (rows of the catalogue,) arcsec per pixel, 0.262 where it is unknown.
    """

    inputs: InputSpec
    bands: tuple[str, ...]
    seeing: Tensor
    noise: Tensor
    pixel_scale: Tensor
    space = FLUX

    def make(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> Pair:
        """See `DegradedPairs`; nanomaggies, as many pixels as the network has, from the stamp's middle."""
        flux = images.float()
        places = rows.to(self.seeing.device)
        seeing, noise = self.seeing[places].to(flux.device), self.noise[places].to(flux.device)
        scale = self.pixel_scale[places].to(flux.device)
        done = draw_degradation(len(flux), self.bands, generator, seeing=seeing, pixel_scale=scale, severity=SEVERITY)
        degraded, side = done.apply(flux, generator, noise=noise), self.inputs.network_size
        return Pair(centre(degraded, side), centre(flux, side), done, degraded)

    def restored(self, network: MultiTaskNetwork, pair: Pair) -> Tensor:
        """See `DegradedPairs`; nanomaggies."""
        assert pair.degradation is not None and pair.whole is not None
        return network.restore_flux(pair.whole, pair.degradation, self.inputs.network_size)

    def loss(self, restored: Tensor, pair: Pair) -> Tensor:
        """See `flux_loss`."""
        assert pair.degradation is not None
        return flux_loss(restored, pair.original, pair.degradation.noise)

    def error_left(self, degraded: Tensor, restored: Tensor, original: Tensor) -> float:
        """Of the root mean square error of each stamp and band, so that bright galaxies count no more than faint."""
        error, before = ((images - original).square().mean(dim=(2, 3)).sqrt() for images in (restored, degraded))
        return float((error / before.clamp_min(1e-12)).mean())

    def levels(self, images: Tensor, original: Tensor) -> Tensor:
        """The brightest true pixel of each stamp and band is one."""
        return images / original.amax(dim=(2, 3), keepdim=True).clamp_min(FAINTEST_PEAK)

    def picture(self, images: Tensor) -> Tensor:
        """As the survey's viewer shows them."""
        return self.inputs.to_rgb(images, "nanomaggy")


def degraded_pairs(inputs: InputSpec, units: str, bands: Sequence[str], table: pd.DataFrame) -> DegradedPairs:
    """For the stamps of a prepared catalogue.

    What each stamp's seeing and noise are: see `observed_conditions`.

    Raises
    ------
    GalaxyError
        If fluxes come in a band whose seeing and noise the degradation does not know.
    """
    if units == "rgb":
        return DisplayPairs(inputs)
    unknown = [band for band in bands if band not in SEEING]
    if unknown:
        raise GalaxyError(
            f"band {unknown[0]!r} has no known distribution of seeing and noise, which restoration needs; known are "
            f"{sorted(SEEING)}. Choose among these as the survey's `bands`"
        )
    observed = observed_conditions(table, bands)
    scale = observed.pixel_scale
    return FluxPairs(
        inputs,
        tuple(bands),
        observed.seeing / FWHM_PER_SIGMA / scale[:, None],
        observed.noise * scale[:, None],
        scale,
    )
