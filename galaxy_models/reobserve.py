"""The same galaxies on another night of the survey: behind other dust, under worse seeing, with more noise.

Physics on fluxes, after whatever turned and resized the stamps and before the stretch. Published pictures have no
fluxes and cannot be observed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .blur import gaussian_blur, noise_left
from .degradation import FWHM_PER_SIGMA
from .photometry import transmission
from .survey_statistics import ObservedConditions, SurveyStatistics


@dataclass(frozen=True)
class Reobservation:
    """All that is needed to observe stamps anew.

    Attributes
    ----------
    own
        How each stamp was observed; what is unknown counts as the survey's median.
    survey
        What is drawn from.
    """

    own: ObservedConditions
    survey: SurveyStatistics

    def of(self, rows: Tensor, device: torch.device | str) -> Reobservation:
        """That of the stamps `rows`, (n,) int64, on a device."""
        return Reobservation(self.own.of(rows, device), self.survey)


@dataclass(frozen=True)
class Chances:
    """The share of stamps whose dust, seeing and noise are drawn anew, each by itself; 0 turns it off."""

    reddening: float = 1.0
    seeing: float = 1.0
    depth: float = 1.0


def reobserve(
    flux: Tensor,
    bands: Sequence[str],
    observation: Reobservation,
    generator: torch.Generator,
    *,
    chances: Chances = Chances(),
    magnification: Tensor | float = 1.0,
    interpolation: Tensor | float = 0.0,
) -> Tensor:
    """Redden, blur and add noise, in this order, up to conditions that are drawn from the survey.

    Parameters
    ----------
    flux
        (N, C, H, W) nanomaggies per pixel, on the generator's device.
    bands
        The C bands.
    observation
        Of these N stamps and bands.
    magnification, interpolation
        What was done to the stamps before: (N,) factor of their size, and variance that the interpolation added along
        each axis, square pixels of the stamp (`interpolation_blur`).

    Returns
    -------
    Tensor
        (N, C, H, W) float32 nanomaggies per pixel.

    Notes
    -----
    With m the magnification, v the interpolation, s the stamp's own sigma of the PSF and n its own noise:

    - reddening: each band times T = 10^(-0.4 k (E' - E)), E the stamp's own E(B-V) and E' the one drawn.
    - seeing: the PSF is now of m^2 (s^2 + v), the blur adds the variance t = max(0, s'^2 - m^2 (s^2 + v)).
    - noise: of the stamp's own there is left n'' = T n L(t, v), see `noise_left`, and
      sqrt(max(0, n'^2 - n''^2)) is added, white.

    So a stamp that is already worse than the draw stays as it is. The PSF counts as a round Gaussian, the own noise as
    white before the interpolation; where a survey's pixels are correlated, a blurred stamp ends a little noisier than
    drawn. The noise that belongs to the source's own light is not followed.
    """
    count, own, survey = len(flux), observation.survey.completed(observation.own), observation.survey
    scale = own.pixel_scale[:, None]
    magnification, interpolation = (
        torch.as_tensor(value, dtype=torch.float32, device=flux.device).expand(count)[:, None]
        for value in (magnification, interpolation)
    )

    change = survey.draw_reddening(count, generator) - own.reddening
    dimming = transmission(change * _chosen(count, chances.reddening, generator), bands)

    # the FWHM of a Gaussian in arcsec, as its variance in square pixels
    to_variance = (FWHM_PER_SIGMA * scale) ** -2
    present = magnification**2 * (own.seeing**2 * to_variance + interpolation)
    wanted = survey.draw_seeing(count, generator) ** 2 * to_variance
    added = (wanted - present).clamp_min(0) * _chosen(count, chances.seeing, generator)[:, None]

    left = own.noise * scale * dimming * noise_left(added, interpolation)
    target = survey.draw_noise(count, generator) * scale
    extra = (target**2 - left**2).clamp_min(0).sqrt() * _chosen(count, chances.depth, generator)[:, None]

    blurred = gaussian_blur(flux.float() * dimming[..., None, None], added)
    white = torch.randn(blurred.shape, generator=generator, device=generator.device)
    return torch.addcmul(blurred, white, extra[..., None, None])


def _chosen(count: int, chance: float, generator: torch.Generator) -> Tensor:
    """(count,) of 1 and 0: each stamp is chosen by chance."""
    return (torch.rand(count, generator=generator, device=generator.device) < chance).float()
