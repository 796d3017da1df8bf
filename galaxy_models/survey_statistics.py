"""How a survey observes: the distributions of seeing, noise and reddening over its stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .degradation import FWHM_PER_SIGMA, NOISE, REDDENING, SEEING, SURVEY_PIXEL_SCALE, ShiftedLognormal

FEWEST_KNOWN = 20
"""Stamps of known value that a distribution is measured on at least."""

STEPS = 64


@dataclass(frozen=True)
class Quantiles:
    """A measured distribution: `values` are its quantiles at (i + 1/2) / n, and draws lie linearly between them."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Quantiles:
        """The distribution of some finite numbers; the outermost hundredth at either end is cut off."""
        chances = (np.arange(STEPS) + 0.5) / STEPS
        # six digits: no survey knows more, and a card is read by people
        return cls(tuple(float(f"{value:.6g}") for value in np.quantile(values.astype(np.float64), chances)))

    @property
    def median(self) -> float:
        """The middle of the distribution."""
        return float(np.median(self.values))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32."""
        values = torch.tensor(self.values, device=generator.device)
        place = torch.rand(count, generator=generator, device=generator.device) * (len(values) - 1)
        low = place.long().clamp_max(max(len(values) - 2, 0))
        return torch.lerp(values[low], values[(low + 1).clamp_max(len(values) - 1)], place - low)


Distribution = Quantiles | ShiftedLognormal


@dataclass(frozen=True)
class ObservedConditions:
    """How each of N stamps was observed, in units that do not depend on its pixels. NaN is unknown.

    Attributes
    ----------
    seeing
        (N, C) FWHM of the PSF by band, arcsec.
    noise
        (N, C) standard deviation of the sky in a square arcsecond, nanomaggies: that of a pixel over the pixel's side.
    reddening
        (N,) Galactic E(B-V), magnitudes.
    pixel_scale
        (N,) arcsec per pixel; known.
    """

    seeing: Tensor
    noise: Tensor
    reddening: Tensor
    pixel_scale: Tensor

    def of(self, rows: Tensor, device: torch.device | str) -> ObservedConditions:
        """Those of the stamps `rows`, (n,) int64, on a device."""
        rows = rows.to(self.seeing.device)
        chosen = (each[rows].to(device) for each in (self.seeing, self.noise, self.reddening, self.pixel_scale))
        return ObservedConditions(*chosen)


@dataclass(frozen=True)
class SurveyStatistics:
    """What the survey's stamps are like, band by band.

    Attributes
    ----------
    bands
        C bands.
    seeing, noise
        Of each band, in the units of `ObservedConditions`; None where nothing is known, and nothing is then drawn.
    reddening
        Of E(B-V).
    """

    bands: tuple[str, ...]
    seeing: tuple[Distribution | None, ...]
    noise: tuple[Distribution | None, ...]
    reddening: Distribution

    @classmethod
    def measured(cls, observed: ObservedConditions, bands: Sequence[str]) -> SurveyStatistics:
        """The distributions over stamps; where fewer than 20 are known, those that are published (`published`)."""
        known = published(bands)
        return cls(
            tuple(bands),
            tuple(_measured(observed.seeing[:, i], known.seeing[i]) for i in range(len(bands))),
            tuple(_measured(observed.noise[:, i], known.noise[i]) for i in range(len(bands))),
            _measured(observed.reddening, known.reddening) or known.reddening,
        )

    def draw_seeing(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, C) FWHM, arcsec, bands independent; 0 where nothing is known."""
        return _draw(self.seeing, count, generator)

    def draw_noise(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, C) nanomaggies in a square arcsecond, bands independent; 0 where nothing is known."""
        return _draw(self.noise, count, generator)

    def draw_reddening(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) E(B-V)."""
        return self.reddening.draw(count, generator)

    def completed(self, observed: ObservedConditions) -> ObservedConditions:
        """The conditions with the survey's median where a value is unknown."""
        like = observed.seeing
        seeing, noise = (
            like.new_tensor([0.0 if each is None else each.median for each in of_band])
            for of_band in (self.seeing, self.noise)
        )
        return ObservedConditions(
            torch.where(like.isfinite(), like, seeing),
            torch.where(observed.noise.isfinite(), observed.noise, noise),
            observed.reddening.nan_to_num(nan=self.reddening.median),
            observed.pixel_scale,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values, by band; what was measured has `values`, what is published the numbers of its lognormal."""
        return {
            "seeing_fwhm_arcsec": dict(zip(self.bands, map(_plain, self.seeing), strict=True)),
            "noise_nanomaggy_per_square_arcsec": dict(zip(self.bands, map(_plain, self.noise), strict=True)),
            "reddening": _plain(self.reddening),
        }


def published(bands: Sequence[str]) -> SurveyStatistics:
    """The southern Legacy Surveys DR9 (Stein et al. 2021), fits of g, r and z; nothing for other bands."""
    seeing = {band: fit.scaled(FWHM_PER_SIGMA * SURVEY_PIXEL_SCALE) for band, fit in SEEING.items()}
    noise = {band: fit.scaled(1 / SURVEY_PIXEL_SCALE) for band, fit in NOISE.items()}
    return SurveyStatistics(tuple(bands), tuple(map(seeing.get, bands)), tuple(map(noise.get, bands)), REDDENING)


def _measured(values: Tensor, otherwise: Distribution | None) -> Distribution | None:
    known = values[values.isfinite()].cpu().numpy()
    return Quantiles.of(known) if len(known) >= FEWEST_KNOWN else otherwise


def _draw(of_band: Sequence[Distribution | None], count: int, generator: torch.Generator) -> Tensor:
    nothing = torch.zeros(count, device=generator.device)
    return torch.stack([nothing if each is None else each.draw(count, generator) for each in of_band], dim=1)


def _plain(distribution: Distribution | None) -> dict[str, Any] | None:
    if distribution is None:
        return None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(distribution).items()}
