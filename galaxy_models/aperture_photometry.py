"""Photometry of fluxes, before a picture is made of them: light within apertures, colours, and second moments.

A picture clips the cores of galaxies and hides what is faint, so that nobody reads a magnitude from it as well as from
a sum of fluxes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

APERTURES = 14
SMALLEST_APERTURE, LARGEST_APERTURE = 1.5, 0.45
"""Radii of the circular apertures, which grow by one factor: from so many pixels to this share of the side."""

REFERENCE = 9
"""Aperture whose light is told by itself; a seventh of the side in radius, for a side of 128 px."""

WINDOWS = 5
SMALLEST_WINDOW, LARGEST_WINDOW = 2.0, 0.22
"""Sigma of the Gaussian windows, in the same way."""

SOFTENING = 0.1
"""Nanomaggies, magnitude 25: where the sum of an aperture passes from linear to logarithmic."""

BORDER = 1 / 16
"""Share of the side, along each edge, that counts as sky."""

SIGMAS = 3.0
"""Below so many of its own error a level of the sky counts as noise, and moments of light count for little."""

DECENTRED = 1
"""Pixels by which `decentred` moves a stamp at most, along each side."""

LOOKS = 4
"""At each stamp, by `decentred_looks`."""

MOMENTS = 6
"""Sums under a window: of 1, x, y, xx, yy and xy, times the light."""

LARGEST_SIZE, LARGEST_ELLIPTICITY = 4.0, 2.0
"""Twice what a flat light has, and more than any light without negative pixels; what is beyond is noise."""


def photometry_size(bands: int) -> int:
    """How many numbers `aperture_photometry` gives for fluxes in so many bands."""
    return bands * (APERTURES + 2 * WINDOWS + 1) + direction_size(bands)


def direction_size(bands: int) -> int:
    """How many of them, the last ones, turn with the stamp."""
    return bands * 2 * WINDOWS


def aperture_photometry(flux: Tensor) -> Tensor:
    """Measure what lies around the middle of each stamp.

    Parameters
    ----------
    flux
        (N, C, h, h) nanomaggies per pixel.

    Returns
    -------
    Tensor
        (N, `photometry_size(C)`) float32, where light F is told as asinh(F / SOFTENING): that of the first band within
        the `REFERENCE` aperture, and of each later band less that of the band before; of each band what every aperture
        has more than the next smaller one; under each window of sigma s the size (xx + yy) / s^2 and the ellipticity
        |xx - yy, 2 xy| / (xx + yy) by central second moments, each times S^2 / (S^2 + 9) with S the signal to noise
        under the window; and the light of the sky that was taken off the whole square. None of these depends on how
        the stamp is turned or mirrored, but for what a square grid of pixels does. The last `direction_size(C)` numbers
        do: of each band and window the ellipticity's two components, e1 and e2 as in `ellipticity.py` with south first.

    Notes
    -----
    Surveys take the sky off, and the median of a border, summed over a large aperture, is noisier than the pixels in
    it. So a median m of error e is taken off as m max(0, 1 - (3 e / m)^2): hardly at all where it could be noise. What
    it takes of a large galaxy's wings is told. Errors and S are those of independent pixels; where pixels are
    correlated, as in resampled coadds, errors are larger than that, up to twice in the large sums.
    """
    with torch.autocast(flux.device.type, enabled=False):
        count, bands, side, _ = flux.shape
        light = flux.float().flatten(0, 1).flatten(1)
        sky, scatter = _sky(light, side)
        sums = (light - sky[:, None]) @ _weights(side, flux.device)
        apertures, moments = sums.split([APERTURES, MOMENTS * WINDOWS], dim=1)
        told = (apertures / SOFTENING).asinh().view(count, bands, APERTURES)
        reference = told[:, :, REFERENCE]
        shapes, directions = _shapes(moments.view(-1, WINDOWS, MOMENTS), scatter, side)
        return torch.cat(
            [
                reference[:, :1],
                reference.diff(dim=1),
                told.diff(dim=2).flatten(1),
                shapes.view(count, -1),
                (sky * side**2 / SOFTENING).asinh().view(count, bands),
                directions.view(count, -1),
            ],
            dim=1,
        )


def decentred(flux: Tensor, generator: torch.Generator) -> Tensor:
    """Each (N, C, h, h) moved by whole pixels, `DECENTRED` at most, as catalogues miss centres; the edges wrap."""
    count, _, height, width = flux.shape
    moves = torch.randint(
        -DECENTRED, DECENTRED + 1, (2, count, 1), generator=generator, device=generator.device, dtype=torch.long
    )
    rows = (torch.arange(height, device=flux.device) - moves[0]) % height
    columns = (torch.arange(width, device=flux.device) - moves[1]) % width
    stamps = torch.arange(count, device=flux.device)[:, None, None]
    return flux[stamps, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def decentred_looks(parts: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """Photometry of each stamp from several places, for who learns from it.

    Parameters
    ----------
    parts
        (n, C, h, h) nanomaggies each, on the generator's device; in all N stamps, at least one.

    Returns
    -------
    Tensor
        (`LOOKS`, N, `photometry_size(C)`), each look `decentred`.
    """
    looks = [torch.stack([aperture_photometry(decentred(part, generator)) for _ in range(LOOKS)]) for part in parts]
    return torch.cat(looks, dim=1)


def _sky(light: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Of (M, side^2): the level of the border that is more than noise, and the scatter of a pixel; (M,) each."""
    border = light[:, _border(side, light.device)]
    level = border.median(dim=1).values
    scatter = 1.4826 * (border - level[:, None]).abs().median(dim=1).values
    error = math.sqrt(math.pi / 2 / border.shape[1]) * scatter
    return level * (1 - (SIGMAS * error / level.abs().clamp_min(1e-9)).square()).clamp_min(0), scatter


def _shapes(moments: Tensor, scatter: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Of (M, WINDOWS, MOMENTS) sums of 1, x, y, xx, yy and xy, in units of each window.

    Returns
    -------
    Tensor
        (M, 2 WINDOWS) sizes and ellipticities.
    Tensor
        (M, WINDOWS, 2) of each ellipticity e1 and e2.
    """
    total = moments[..., 0]
    # a window exp(-r^2 / 2 s^2) has squares of the sum pi s^2
    noise = scatter[:, None] * math.sqrt(math.pi) * scatter.new_tensor(_windows(side))
    trust = total.square() / (total.square() + (SIGMAS * noise).square()).clamp_min(1e-12)
    x, y, xx, yy, xy = (moments[..., 1:] / torch.where(total.abs() < 1e-6, 1e-6, total)[..., None]).unbind(-1)
    xx, yy, xy = xx - x * x, yy - y * y, xy - x * y
    size = xx + yy
    # east is left and row 0 south: along columns is e1 = 1, and what rises to the right has a negative e2
    direction = torch.stack([yy - xx, -2 * xy], dim=-1) / size.abs().clamp_min(1e-3)[..., None]
    ellipticity = direction.norm(dim=-1)
    believed = ellipticity.clamp_max(LARGEST_ELLIPTICITY) * trust
    direction = direction * (believed / ellipticity.clamp_min(1e-6))[..., None]
    return torch.cat([size.clamp(-LARGEST_SIZE, LARGEST_SIZE) * trust, believed], dim=1), direction


@lru_cache(maxsize=4)
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
        for sigma in _windows(side):
            u, v = x / sigma, y / sigma
            window = torch.exp(-0.5 * (u * u + v * v))
            columns += [window * each for each in (torch.ones_like(u), u, v, u * u, v * v, u * v)]
        return torch.stack(columns, dim=1).float().to(device)


@lru_cache(maxsize=4)
def _border(side: int, device: torch.device) -> Tensor:
    """Which of side^2 pixels are sky, by their places."""
    with torch.inference_mode(False):
        width = max(1, round(side * BORDER))
        border = torch.ones(side, side, dtype=torch.bool)
        border[width:-width, width:-width] = False
        return border.flatten().nonzero()[:, 0].to(device)


def _windows(side: int) -> list[float]:
    return _growing(SMALLEST_WINDOW, LARGEST_WINDOW * side, WINDOWS)


def _growing(first: float, last: float, count: int) -> list[float]:
    """`count` numbers from the first to the last, each the same factor above the one before."""
    return [first * (last / first) ** (step / (count - 1)) for step in range(count)]
