"""How near an image of fluxes comes to the truth, and what an astronomer would measure on it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from photutils.aperture import CircularAperture
from torch import Tensor

from galaxy_models.degradation import SURVEY_PIXEL_SCALE
from galaxy_models.metrics import psnr, ssim

APERTURE = 3.0
"""Radius in which flux, and the radius of half of it, are measured, arcsec."""

WINDOW = 1.5
"""Sigma of the Gaussian that weights the second moments, arcsec: without it noise far out would rule them."""

RADII = np.linspace(0.25, APERTURE / SURVEY_PIXEL_SCALE, 46)
"""Of the curve of growth, pixels."""

Floats = NDArray[np.float64]


def decibels(images: Tensor, reference: Tensor) -> Floats:
    """PSNR on fluxes, (N, C, H, W) to (N,): mean of the bands, each with its brightest true pixel for the peak."""
    peak = _peak(reference)
    ratio = psnr((images / peak).flatten(0, 1)[:, None], (reference / peak).flatten(0, 1)[:, None])
    return ratio.view(reference.shape[:2]).mean(dim=1).double().numpy()


def similarity(images: Tensor, reference: Tensor) -> Floats:
    """SSIM on fluxes in units of the same peaks, (N, C, H, W) to (N,)."""
    peak = _peak(reference)
    return ssim(images / peak, reference / peak).double().numpy()


def measured(images: Tensor) -> dict[str, Floats]:
    """Measure the galaxy in the middle of (N, H, W) images.

    Returns
    -------
    dict
        `flux` within 3 arcsec, `radius` of half of that flux (pixels), and `axis_ratio` by second moments under a
        Gaussian window of 1.5 arcsec; each (N,), NaN where noise leaves nothing to measure.
    """
    side = images.shape[-1]
    light = images.double().numpy()
    growth = np.einsum("nij,rij->nr", light, _apertures(side))
    flux = growth[:, -1]
    half = np.array([_first_crossing(curve) for curve in growth])
    place = np.arange(side) - (side - 1) / 2
    y, x = place[:, None], place[None, :]
    weighted = light * np.exp(-0.5 * (x**2 + y**2) / (WINDOW / SURVEY_PIXEL_SCALE) ** 2)

    def mean(values: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weighted * values).sum(axis=(1, 2)) / weighted.sum(axis=(1, 2)))

    mx, my = mean(np.broadcast_to(x, (side, side))), mean(np.broadcast_to(y, (side, side)))
    xx, yy, xy = mean(x * x + 0 * y) - mx**2, mean(y * y + 0 * x) - my**2, mean(x * y) - mx * my
    size, length = xx + yy, np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        axis_ratio = np.sqrt((size - length) / (size + length))
    positive = (flux > 0) & (weighted.sum(axis=(1, 2)) > 0)
    return {
        "flux": np.where(positive, flux, np.nan),
        "radius": np.where(positive, half, np.nan),
        "axis_ratio": np.where(positive, axis_ratio, np.nan),
    }


def aperture_signal_to_noise(reference: Tensor, noise: Tensor) -> Floats:
    """S/N (N,) of the flux within 3 arcsec, of noiseless (N, H, W) images under (N,) white noise of a pixel."""
    area = np.pi * (APERTURE / SURVEY_PIXEL_SCALE) ** 2
    return np.asarray(measured(reference)["flux"] / (noise.double().numpy() * area**0.5))


@lru_cache(maxsize=2)
def _apertures(side: int) -> Floats:
    """(radii, side, side) share of each pixel within each circle around the middle."""
    middle = ((side - 1) / 2, (side - 1) / 2)
    masks = [CircularAperture(middle, radius).to_mask(method="exact") for radius in RADII]
    return np.stack([mask.to_image((side, side)) for mask in masks])


def _first_crossing(curve: Floats) -> float:
    """Radius at which the curve of growth first reaches half of its end."""
    above = curve >= curve[-1] / 2
    place = int(np.argmax(above))
    if place == 0:
        return float(RADII[0])
    return float(np.interp(curve[-1] / 2, curve[place - 1 : place + 1], RADII[place - 1 : place + 1]))


def _peak(reference: Tensor) -> Tensor:
    return reference.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
