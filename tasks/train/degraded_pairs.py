"""Pairs for restoration: a stamp as the survey took it, and the same under worse seeing and more noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from galaxy_models.degradation import (
    FWHM_PER_SIGMA,
    SEEING,
    degrade_display,
    degrade_flux,
)
from galaxy_models.inputs import InputSpec
from infra.errors import GalaxyError
from tasks.train.observed import observed_conditions

SEVERITY = 1.5
"""Fluxes are made half as bad again as the survey's own spread, so that nearly every stamp is degraded."""


@dataclass(frozen=True)
class DegradedPairs:
    """Makes the pairs of a survey: on fluxes where it has them, in display space where it does not.

    Attributes
    ----------
    space
        `flux` or `display`.
    seeing, noise
        (rows of the catalogue, bands): PSF sigma in pixels, pixel noise in nanomaggies; NaN unknown. For fluxes.
    pixel_scale
        (rows of the catalogue,) arcsec per pixel, 0.262 where it is unknown. For fluxes.
    """

    inputs: InputSpec
    space: str
    bands: tuple[str, ...]
    seeing: Tensor
    noise: Tensor
    pixel_scale: Tensor

    def make(self, images: Tensor, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Degraded and original, as the network sees them.

        Parameters
        ----------
        images
            (N, C, H, W) raw stamps.
        rows
            (N,) their catalogue rows.

        Returns
        -------
        tuple of Tensor
            Two (N, 3, crop / binning, crop / binning) in 0..1.
        """
        inputs = self.inputs
        if self.space == "flux":
            flux = images.float()
            places = rows.to(self.seeing.device)
            seeing, noise = self.seeing[places].to(flux.device), self.noise[places].to(flux.device)
            scale = self.pixel_scale[places].to(flux.device)
            degraded = degrade_flux(
                flux, self.bands, generator, seeing=seeing, noise=noise, pixel_scale=scale, severity=SEVERITY
            )
            return inputs.to_network(degraded, "nanomaggy"), inputs.to_network(flux, "nanomaggy")
        rgb = inputs.to_rgb(images, "rgb")
        return inputs.to_network(degrade_display(rgb, generator), "rgb"), inputs.to_network(rgb, "rgb")


def degraded_pairs(inputs: InputSpec, units: str, bands: Sequence[str], table: pd.DataFrame) -> DegradedPairs:
    """For the stamps of a prepared catalogue.

    What each stamp's seeing and noise are: see `observed_conditions`.

    Raises
    ------
    GalaxyError
        If fluxes come in a band whose seeing and noise the degradation does not know.
    """
    if units == "rgb":
        nothing = torch.zeros(0, 0)
        return DegradedPairs(inputs, "display", tuple(bands), nothing, nothing, torch.zeros(0))
    unknown = [band for band in bands if band not in SEEING]
    if unknown:
        raise GalaxyError(
            f"band {unknown[0]!r} has no known distribution of seeing and noise, which restoration needs; known are "
            f"{sorted(SEEING)}. Choose among these as the survey's `bands`"
        )
    observed = observed_conditions(table, bands)
    scale = observed.pixel_scale
    return DegradedPairs(
        inputs,
        "flux",
        tuple(bands),
        observed.seeing / FWHM_PER_SIGMA / scale[:, None],
        observed.noise * scale[:, None],
        scale,
    )
