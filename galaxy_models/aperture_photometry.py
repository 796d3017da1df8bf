"""Photometry of fluxes, before a picture is made of them: light within apertures, and second moments.

A picture clips the cores of galaxies and hides what is faint, so that nobody reads a magnitude from it as well as from
a sum of fluxes.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .outline import above_sky

APERTURES = 14
SMALLEST_APERTURE, LARGEST_APERTURE = 1.5, 0.45
"""Radii of the circular apertures, which grow by one factor: from so many pixels to this share of the side."""

WINDOWS = 5
SMALLEST_WINDOW, LARGEST_WINDOW = 2.0, 0.22
"""Sigma of the Gaussian windows, in the same way."""

SOFTENING = 0.1
"""Nanomaggies, magnitude 25: where the sum of an aperture passes from linear to logarithmic."""

MOMENTS = 6
LIMIT = 4.0


def measures_of(bands: int) -> int:
    """How many numbers `photometry` gives for fluxes in so many bands."""
    return bands * (APERTURES + 2 * WINDOWS)


def photometry(flux: Tensor) -> Tensor:
    """Measure what lies around the middle of each stamp, above the median of its border.

    Parameters
    ----------
    flux
        (N, C, h, h) nanomaggies per pixel.

    Returns
    -------
    Tensor
        (N, `measures_of(C)`) float32. Of each band: asinh(F / SOFTENING) of the light F within each aperture; then,
        under each window of sigma s, the size (xx + yy) / s^2 and the ellipticity |xx - yy, 2 xy| / (xx + yy) by the
        central second moments, 2 and 0 for a flat sky. Nothing depends on how the stamp is turned or mirrored, but for
        what a square grid of pixels does.
    """
    with torch.autocast(flux.device.type, enabled=False):
        count, _, side, _ = flux.shape
        light, _ = above_sky(flux.float().flatten(0, 1))
        sums = light.flatten(1) @ _weights(side, flux.device)
        apertures, moments = sums.split([APERTURES, MOMENTS * WINDOWS], dim=1)
        shapes = _shapes(moments.view(-1, WINDOWS, MOMENTS))
        return torch.cat([(apertures / SOFTENING).asinh(), shapes], dim=1).view(count, -1)


def _shapes(moments: Tensor) -> Tensor:
    """(M, WINDOWS, MOMENTS) sums of 1, x, y, xx, yy and xy, in units of each window, to (M, 2 WINDOWS)."""
    total = moments[..., :1]
    total = torch.where(total.abs() < 1e-3, 1e-3, total)  # no light under the window
    x, y, xx, yy, xy = (moments[..., 1:] / total).unbind(-1)
    xx, yy, xy = xx - x * x, yy - y * y, xy - x * y
    size = xx + yy
    ellipticity = ((xx - yy).square() + 4 * xy.square()).sqrt() / size.abs().clamp_min(1e-3)
    return torch.cat([size.clamp(-LIMIT, LIMIT), ellipticity.clamp_max(2)], dim=1)


@lru_cache(maxsize=16)
def _weights(side: int, device: torch.device) -> Tensor:
    """(side^2, APERTURES + WINDOWS MOMENTS): what each sum takes of each pixel."""
    with torch.inference_mode(False):  # the cache outlives the mode it is filled in
        place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        y, x = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
        radius = torch.hypot(x, y)
        columns = [
            (aperture - radius + 0.5).clamp(0, 1)  # a pixel on the edge counts in part
            for aperture in _growing(SMALLEST_APERTURE, LARGEST_APERTURE * side, APERTURES)
        ]
        for sigma in _growing(SMALLEST_WINDOW, LARGEST_WINDOW * side, WINDOWS):
            u, v = x / sigma, y / sigma
            window = torch.exp(-0.5 * (u * u + v * v))
            columns += [window * each for each in (torch.ones_like(u), u, v, u * u, v * v, u * v)]
        return torch.stack(columns, dim=1).float().to(device)


def _growing(first: float, last: float, count: int) -> list[float]:
    """`count` numbers from the first to the last, each the same factor above the one before."""
    return [first * (last / first) ** (step / (count - 1)) for step in range(count)]
