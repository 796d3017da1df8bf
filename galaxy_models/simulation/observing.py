"""The sky's and the telescope's part: seeing, noise, depth, and what they do to an image.

Distributions are fits to DR9 South stamps of the Legacy Surveys, as Stein et al. (2021) published them with their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from .lensing import MOFFAT_BETA

NOISE = {"g": (0.2265, -0.00067, 0.003760), "r": (0.2431, -0.00237, 0.006742), "z": (0.1335, -0.01434, 0.02608)}
"""Pixel noise, nanomaggies: sigma = loc + scale exp(shape n) with (shape, loc, scale) and n normal."""

NOISE_RANGE = {"g": (0.001094, 0.013), "r": (0.001094, 0.018), "z": (0.001094, 0.061)}
SEEING = {"g": (0.2110, 1.0807, 1.3153), "r": (0.3008, 1.2394, 0.9165), "z": (0.3471, 1.1928, 0.8234)}
"""Gaussian sigma of the PSF, pixels of 0.262", in the same form."""

SEEING_RANGE = {"g": (1.32, 5.0), "r": (1.27, 4.5), "z": (1.21, 4.25)}
SURVEY_PIXEL = 0.262
GAUSSIAN_FWHM = 2.3548
REDDENING = (0.67306, 0.001146, 0.03338)
SKY_BRIGHTNESS = {"g": 22.0, "r": 21.1, "z": 19.0}
"""Of a dark site, AB magnitudes per square arcsec: what the pixel noise comes from, so what a source's own is worth."""

NEIGHBOUR_WEIGHT = 0.16
"""Weight of a pixel's neighbour in resampled noise, of its own 1: correlation 0.3 along rows and columns."""


@dataclass(frozen=True)
class Conditions:
    """How one object was observed: PSF FWHM (arcsec) and pixel noise (nanomaggies) per band, and E(B-V)."""

    bands: tuple[str, ...]
    psf_fwhm: tuple[float, ...]
    noise: tuple[float, ...]
    reddening: float
    pixel_scale: float

    def depth(self, band: str) -> float:
        """Inverse variance of a point source's flux, 1 / nanomaggy^2: 1 / (4 pi sigma_psf^2 noise^2)."""
        i = self.bands.index(band)
        width = self.psf_fwhm[i] / GAUSSIAN_FWHM / self.pixel_scale
        return float(1 / (4 * np.pi * width**2 * self.noise[i] ** 2))


def draw_conditions(generator: np.random.Generator, bands: Sequence[str], pixel_scale: float) -> Conditions:
    """Seeing and noise of one object.

    Bands share half of the variance of seeing and of noise, as nights and exposure times do; each band alone follows
    its fit. Noise per pixel is that of the survey's pixels: another pixel scale has another area and another noise.
    """
    night, exposure = generator.standard_normal(2)
    psf, noise = [], []
    for band in bands:
        own = generator.standard_normal(2)
        width = _lognormal((night + own[0]) / np.sqrt(2), SEEING[band], SEEING_RANGE[band])
        sigma = _lognormal((exposure + own[1]) / np.sqrt(2), NOISE[band], NOISE_RANGE[band])
        psf.append(width * GAUSSIAN_FWHM * SURVEY_PIXEL)
        noise.append(sigma * pixel_scale / SURVEY_PIXEL)
    reddening = _lognormal(generator.standard_normal(), REDDENING, (0.0, 0.3))
    return Conditions(tuple(bands), tuple(psf), tuple(noise), reddening, pixel_scale)


def transfer(wavenumber: NDArray[np.float32], fwhm: float) -> NDArray[np.float32]:
    """Fourier transform of the Moffat PSF at `wavenumber` radians per arcsec; 1 at 0."""
    step, values = _moffat_table()
    position = np.minimum(wavenumber * np.float32(fwhm / step), np.float32(len(values) - 2))
    low = position.astype(np.int32)
    part = position - low
    result: NDArray[np.float32] = values[low] * (1 - part) + values[low + 1] * part
    return result


def add_noise(flux: NDArray[np.float32], conditions: Conditions, generator: np.random.Generator) -> NDArray[np.float32]:
    """Noise of sky and source onto (C, H, W) nanomaggies, correlated between pixels as resampling leaves it."""
    white = generator.standard_normal((flux.shape[0], flux.shape[1] + 2, flux.shape[2] + 2), dtype=np.float32)
    side = np.float32(NEIGHBOUR_WEIGHT)
    rows = white[:, 1:-1] + side * (white[:, :-2] + white[:, 2:])
    both = rows[:, :, 1:-1] + side * (rows[:, :, :-2] + rows[:, :, 2:])
    both /= np.float32(1 + 2 * NEIGHBOUR_WEIGHT**2)
    result = np.empty_like(flux)
    for i, (band, noise) in enumerate(zip(conditions.bands, conditions.noise, strict=True)):
        sky = 10 ** (0.4 * (22.5 - SKY_BRIGHTNESS[band])) * conditions.pixel_scale**2
        # Sky photons make the pixel noise; a source as bright as the sky doubles the variance.
        sigma = np.float32(noise) * np.sqrt(1 + np.maximum(flux[i], 0) / np.float32(sky))
        result[i] = flux[i] + sigma * both[i]
    return result


def _lognormal(normal: float, fit: tuple[float, float, float], limits: tuple[float, float]) -> float:
    shape, loc, scale = fit
    return float(np.clip(loc + scale * np.exp(shape * normal), *limits))


@lru_cache(maxsize=1)
def _moffat_table() -> tuple[float, NDArray[np.float32]]:
    """Step, in radians, and GalSim's transform of a Moffat profile of FWHM 1."""
    step = 0.02
    profile = galsim.Moffat(beta=MOFFAT_BETA, fwhm=1.0, flux=1.0)
    values = [profile.kValue(step * i, 0.0).real for i in range(2000)]
    return step, np.array(values, dtype=np.float32)
