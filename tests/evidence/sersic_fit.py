"""The classical way: a Sersic profile under the known PSF, fitted to a stamp by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from astropy.modeling.models import Sersic2D
from numpy.typing import NDArray
from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources
from scipy.optimize import least_squares
from scipy.special import gamma, gammaincinv

from galaxy_models.simulation.observing import transfer

ZERO_POINT = 22.5
SUBSAMPLES = 2
"""Along a side of a pixel of the model."""

CORE, CORE_SUBSAMPLES = 7, 9
"""Pixels around the middle, and their subsamples: steep profiles change within a pixel."""

MARGIN = 12
"""Pixels drawn beyond each side of the stamp, so that light is scattered in as well as out."""

LIMITS = {
    "log_flux": (-6.0, 14.0),
    "log_radius": (np.log(0.1), np.log(30.0)),
    "index": (0.3, 8.0),
    "axis_ratio": (0.05, 1.0),
}
"""Of the fit: flux in nanomaggies, half-light radius along the major axis in arcsec."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """What was found: r magnitude, half-light radius (arcsec, major axis), axis ratio, index, and whether it ended."""

    mag_r: float
    half_light_radius: float
    axis_ratio: float
    sersic_index: float
    converged: bool


def sersic_image(
    size: int,
    scale: float,
    flux: float,
    radius: float,
    index: float,
    axis_ratio: float,
    angle: float,
    x: float,
    y: float,
) -> Floats:
    """(size, size) flux per pixel of a Sersic profile before the PSF; lengths in arcsec, `angle` in radians from x.

    The amplitude that belongs to a flux: Graham and Driver (2005), eq. 4.
    """
    b = gammaincinv(2 * index, 0.5)
    total = 2 * np.pi * index * np.exp(b) * b ** (-2 * index) * gamma(2 * index) * radius**2 * axis_ratio
    profile = Sersic2D(
        amplitude=flux / total * scale**2, r_eff=radius, n=index, x_0=x, y_0=y, ellip=1 - axis_ratio, theta=angle
    )
    image = _sampled(profile, size, scale, 0.0, 0.0, SUBSAMPLES)
    column, row = (int(np.clip(round(v / scale + (size - 1) / 2), CORE // 2, size - 1 - CORE // 2)) for v in (x, y))
    middle = ((column - (size - 1) / 2) * scale, (row - (size - 1) / 2) * scale)
    low_row, low_column = row - CORE // 2, column - CORE // 2
    image[low_row : low_row + CORE, low_column : low_column + CORE] = _sampled(
        profile, CORE, scale, *middle, CORE_SUBSAMPLES
    )
    return image


class SersicFitter:
    """Fits stamps of one size and pixel scale.

    The PSF is the simulator's own Moffat profile, which is more than a survey would tell.
    """

    def __init__(self, size: int, scale: float) -> None:
        self.size, self.scale = size, scale
        self.padded = size + 2 * MARGIN
        kx = 2 * np.pi * np.fft.rfftfreq(self.padded, scale)[None, :]
        ky = 2 * np.pi * np.fft.fftfreq(self.padded, scale)[:, None]
        self.wavenumber = np.hypot(kx, ky).astype(np.float32)
        # the PSF holds the pixel, as surveys measure it, but the model's pixels are means: they are taken out again
        self.pixel = np.sinc(kx * scale / (2 * np.pi)) * np.sinc(ky * scale / (2 * np.pi))

    def psf(self, fwhm: float) -> Floats:
        """Modes of the PSF without its pixel."""
        return np.asarray(transfer(self.wavenumber, fwhm) / self.pixel)

    def model(self, parameters: Floats, psf: Floats) -> Floats:
        """(size, size) fluxes of ln flux, ln radius, index, axis ratio, angle, x, y."""
        log_flux, log_radius, index, axis_ratio, angle, x, y = parameters
        sharp = sersic_image(
            self.padded, self.scale, np.exp(log_flux), np.exp(log_radius), index, axis_ratio, angle, x, y
        )
        seen = scipy.fft.irfft2(scipy.fft.rfft2(sharp) * psf, s=sharp.shape)
        return np.asarray(seen[MARGIN:-MARGIN, MARGIN:-MARGIN])

    def fit(self, flux: NDArray[np.float32], noise: float, psf_fwhm: float) -> Fit:
        """Fit a (size, size) stamp of nanomaggies whose pixels have `noise`; the galaxy is in the middle.

        Neighbours that photutils finds are left out. The fit starts from the galaxy's own second moments.
        """
        image = flux.astype(np.float64)
        psf = self.psf(psf_fwhm)
        mask, start = self._start(image, noise, psf_fwhm)
        used = ~mask

        def residuals(parameters: Floats) -> Floats:
            return np.asarray(((self.model(parameters, psf) - image) / noise)[used])

        low, high = (np.array([limits[side] for limits in LIMITS.values()]) for side in (0, 1))
        low = np.concatenate([low, [-20.0, -2.0, -2.0]])
        high = np.concatenate([high, [20.0, 2.0, 2.0]])
        found = least_squares(
            residuals,
            np.clip(start, low + 1e-3, high - 1e-3),
            bounds=(low, high),
            x_scale=_SCALES,
            max_nfev=40,
            ftol=1e-5,
        )
        log_flux, log_radius, index, axis_ratio = found.x[:4]
        return Fit(
            mag_r=float(ZERO_POINT - 2.5 * log_flux / np.log(10)),
            half_light_radius=float(np.exp(log_radius)),
            axis_ratio=float(axis_ratio),
            sersic_index=float(index),
            converged=bool(found.success),
        )

    def _start(self, image: Floats, noise: float, psf_fwhm: float) -> tuple[NDArray[np.bool_], Floats]:
        """Pixels of neighbours, and parameters by moments of what is left."""
        middle = self.size // 2
        segments = detect_sources(image, 1.5 * noise, n_pixels=6)
        own = None
        mask = np.zeros(image.shape, dtype=bool)
        if segments is not None:
            segments = deblend_sources(image, segments, n_pixels=6, progress_bar=False)
            own = int(segments.data[middle, middle])
            mask = (segments.data > 0) & (segments.data != own) if own else mask
        if not own:
            radius, axis_ratio, angle, flux = psf_fwhm, 0.8, 0.0, max(float(image.sum()), noise)
        else:
            assert segments is not None
            source = SourceCatalog(image, segments).select_label(own)
            flux = max(float(source.segment_flux), noise)
            variance = source.covariance_eigvals.value * self.scale**2 - (psf_fwhm / 2.3548) ** 2
            major, minor = (max(float(v), (0.3 * self.scale) ** 2) ** 0.5 for v in variance)
            radius, axis_ratio = 1.2 * major, minor / major
            angle = float(source.orientation.to_value("rad"))
        return mask, np.array([np.log(flux), np.log(radius), 1.5, axis_ratio, angle, 0.0, 0.0])


_SCALES = np.array([0.1, 0.1, 0.3, 0.1, 0.1, 0.05, 0.05])


def _sampled(profile: Sersic2D, size: int, scale: float, x: float, y: float, subsamples: int) -> Floats:
    """Mean over each pixel of a (size, size) grid about (x, y)."""
    place = ((np.arange(size * subsamples) + 0.5) / subsamples - size / 2) * scale
    fine = profile(place[None, :] + x, place[:, None] + y)
    return np.asarray(fine.reshape(size, subsamples, size, subsamples).mean(axis=(1, 3)))
