"""The grids a scene is drawn on: fine pixels for shapes, Fourier modes for seeing, survey pixels for the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
import scipy.fft
from numpy.typing import NDArray

MARGIN = 20
"""Survey pixels drawn beyond each side of the stamp, so that light is scattered in as well as out."""

CORE = 12
CORE_SUBSAMPLES = 8

Float = NDArray[np.floating[Any]]  # float32 all through; the stubs widen it
Complex = NDArray[np.complexfloating[Any, Any]]  # complex64


@dataclass(frozen=True, eq=False)
class Canvas:
    """Coordinates in arcsec about the stamp's centre; x grows with columns, y with rows.

    Attributes
    ----------
    size, pixel_scale
        Of the stamp: pixels, and arcsec per pixel.
    padded
        Side of the Fourier grid, survey pixels.
    step
        Side of a fine pixel, arcsec: half a survey pixel.
    x, y
        (1, F) and (F, 1) centres of the fine pixels, F = 2 padded.
    kx, ky
        (1, padded // 2 + 1) and (padded, 1) wave numbers, radians per arcsec.
    """

    size: int
    pixel_scale: float
    padded: int
    step: float
    x: Float
    y: Float
    kx: Float
    ky: Float
    wavenumber: Float
    to_centre: Complex
    to_stamp: Complex

    @property
    def fine(self) -> int:
        """Side of the fine grid, pixels."""
        return 2 * self.padded

    @property
    def half_width(self) -> float:
        """From the centre to the edge of the fine grid, arcsec."""
        return self.padded * self.pixel_scale / 2

    def transform(self, image: Float) -> Complex:
        """Modes (padded, padded // 2 + 1) of a (F, F) image of flux per fine pixel; mode 0 is its total flux."""
        full = scipy.fft.rfft2(image)
        half = self.padded // 2
        kept: Complex = np.concatenate([full[: self.padded - half, : half + 1], full[-half:, : half + 1]])
        return kept * self.to_centre

    def shift(self, x: float, y: float) -> Complex:
        """Modes of a point of unit flux at (x, y)."""
        columns: Complex = np.exp(-1j * self.kx * x).astype(np.complex64)
        rows: Complex = np.exp(-1j * self.ky * y).astype(np.complex64)
        return columns * rows

    def stamp(self, modes: Complex) -> Float:
        """(size, size) flux per survey pixel, sampled at pixel centres.

        No pixel is integrated over: the survey's PSF sizes are measured on images, so they hold the pixel already.
        """
        image: Float = scipy.fft.irfft2(modes * self.to_stamp, s=(self.padded, self.padded))
        low = (self.padded - self.size) // 2
        return image[low : low + self.size, low : low + self.size]

    def sersic(self, radius: float, index: float, axis_ratio: float, angle: float) -> Float:
        """(F, F) flux per fine pixel of a Sersic profile of unit flux at the centre, drawn by GalSim.

        Parameters
        ----------
        radius
            Half-light radius along the major axis, arcsec.
        angle
            Of the major axis, radians from x to y.
        """
        profile = galsim.Sersic(n=index, half_light_radius=radius * axis_ratio**0.5)
        profile = profile.shear(q=axis_ratio, beta=angle * galsim.radians)
        image = galsim.ImageF(self.fine, self.fine, scale=self.step)
        profile.drawImage(image, method="sb")
        flux: Float = image.array * np.float32(self.step**2)
        # The middle of a steep profile changes within a pixel: average it over a finer grid.
        side = CORE * CORE_SUBSAMPLES
        core = galsim.ImageF(side, side, scale=self.step / CORE_SUBSAMPLES)
        profile.drawImage(core, method="sb")
        low = self.padded - CORE // 2
        blocks = core.array.reshape(CORE, CORE_SUBSAMPLES, CORE, CORE_SUBSAMPLES).mean(axis=(1, 3))
        flux[low : low + CORE, low : low + CORE] = blocks * np.float32(self.step**2)
        return flux

    def deposit(self, x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> Float:
        """(F, F) image of points, each on its nearest fine pixel; points beyond the grid are left out."""
        column = np.rint(x / self.step + (self.fine - 1) / 2).astype(np.int64)
        row = np.rint(y / self.step + (self.fine - 1) / 2).astype(np.int64)
        inside = (column >= 0) & (column < self.fine) & (row >= 0) & (row < self.fine)
        flat = np.bincount(row[inside] * self.fine + column[inside], weight[inside], minlength=self.fine**2)
        return flat.reshape(self.fine, self.fine).astype(np.float32)


@lru_cache(maxsize=4)
def canvas(size: int, pixel_scale: float) -> Canvas:
    """The grids of a stamp; the same object for the same stamp."""
    padded = int(scipy.fft.next_fast_len(size + 2 * MARGIN, real=True))
    padded += padded % 2
    step = pixel_scale / 2
    fine = ((np.arange(2 * padded) - (2 * padded - 1) / 2) * step).astype(np.float32)
    kx = 2 * np.pi * np.fft.rfftfreq(padded, pixel_scale)[None, :]
    ky = 2 * np.pi * np.fft.fftfreq(padded, pixel_scale)[:, None]
    first_fine = -(2 * padded - 1) / 2 * step
    first_pixel = -((padded - size) // 2 + (size - 1) / 2) * pixel_scale
    return Canvas(
        size=size,
        pixel_scale=pixel_scale,
        padded=padded,
        step=step,
        x=fine[None, :],
        y=fine[:, None],
        kx=kx.astype(np.float32),
        ky=ky.astype(np.float32),
        wavenumber=np.hypot(kx, ky).astype(np.float32),
        to_centre=np.exp(-1j * (kx + ky) * first_fine).astype(np.complex64),
        to_stamp=np.exp(1j * (kx + ky) * first_pixel).astype(np.complex64),
    )


@lru_cache(maxsize=1)
def _noise_table() -> Float:
    """(512, 512) periodic Gaussian field of variance 1, smooth on 8 to 32 cells: stuff that clumps are made of."""
    generator = np.random.default_rng(20211)
    white = np.fft.rfft2(generator.standard_normal((512, 512)))
    k = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None, :])
    field = np.fft.irfft2(white * (np.exp(-0.5 * (k * 48) ** 2) + 0.45 * np.exp(-0.5 * (k * 16) ** 2)))
    result: Float = ((field - field.mean()) / field.std()).astype(np.float32)
    return result


def clumps(u: Float, v: Float, generator: np.random.Generator) -> Float:
    """A smooth Gaussian field of variance 1 at (u, v), with clumps of about one unit; where in it, `generator` says."""
    table = _noise_table()
    first, second = generator.integers(0, 512, 2)
    rows = (u * np.float32(16)).astype(np.int32) + np.int32(first)
    columns = (v * np.float32(16)).astype(np.int32) + np.int32(second)
    field: Float = table[rows & 511, columns & 511]
    return field
