"""What else is in the stamp: foreground stars, and galaxies before and behind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Complex, Float

STAR_DENSITY = 3.0
"""Stars with 15.5 < r < 23 per square arcmin, as at middle Galactic latitudes."""

GALAXY_DENSITY = 30.0
"""Galaxies with 19 < r < 25 per square arcmin."""

FAINT = 22.5
FAINT_SHAPES = ((0.3, 0.0), (0.45, 0.8), (0.45, 2.4), (0.6, 1.6), (0.75, 2.8))
"""Half-light radius (arcsec) and angle of the few shapes that fainter galaxies share: the PSF hides more."""


def draw_field(
    grid: Canvas, bands: Sequence[str], generator: np.random.Generator, *, clear_radius: float
) -> list[Complex]:
    """Modes of all stars and galaxies of the field, one array per band, nanomaggies.

    Parameters
    ----------
    clear_radius
        Arcsec about the centre in which nothing brighter than r = 22 lies: the stamp is of its central galaxy.
    """
    width = 2 * grid.half_width
    area = (width / 60) ** 2
    stars, modes = _Points(grid, bands), _empty(grid, bands)
    faint = [_Points(grid, bands) for _ in FAINT_SHAPES]
    for _ in range(int(generator.poisson(STAR_DENSITY * area))):
        magnitude = _counts(generator, 0.12, 15.5, 23.0)
        x, y = generator.uniform(-width / 2, width / 2, 2)
        colours = _star_colours(generator, magnitude)
        if magnitude > 22 or np.hypot(x, y) > clear_radius:
            stars.add(x, y, _fluxes(magnitude, colours, bands))
    for _ in range(int(generator.poisson(GALAXY_DENSITY * area))):
        magnitude = _counts(generator, 0.34, 19.0, 25.0)
        x, y = generator.uniform(-width / 2, width / 2, 2)
        red = generator.uniform() < 0.35
        mean = (1.35, 0.9) if red else (0.55, 0.4)
        colours = float(generator.normal(mean[0], 0.27)), float(generator.normal(mean[1], 0.25))
        radius = 0.65 * 10 ** (-0.09 * (magnitude - 21)) * np.exp(0.35 * generator.standard_normal())
        axis_ratio, angle = generator.uniform(0.3, 1.0), generator.uniform(0, np.pi)
        if magnitude > FAINT:
            faint[int(generator.integers(len(faint)))].add(x, y, _fluxes(magnitude, colours, bands))
        elif magnitude > 22 or np.hypot(x, y) > clear_radius:
            shape = grid.shift(x, y) * _sersic_modes(grid, 4.0 if red else 1.0, radius, axis_ratio, angle)
            for mode, flux in zip(modes, _fluxes(magnitude, colours, bands), strict=True):
                mode += shape * np.float32(flux)
    for mode, points in zip(modes, stars.total, strict=True):
        mode += points
    for profile, group in zip(_faint_modes(grid), faint, strict=True):
        for mode, points in zip(modes, group.total, strict=True):
            mode += points * profile
    return modes


class _Points:
    """Points with fluxes that share one shape.

    Summed point by point and not by a matrix product: how a product rounds depends on the number of threads, and a
    stamp must be the same bit for bit wherever it is drawn.
    """

    def __init__(self, grid: Canvas, bands: Sequence[str]) -> None:
        self.grid = grid
        self.total = _empty(grid, bands)

    def add(self, x: float, y: float, flux: list[float]) -> None:
        point = self.grid.shift(x, y)
        for mode, amount in zip(self.total, flux, strict=True):
            mode += point * np.float32(amount)


def _empty(grid: Canvas, bands: Sequence[str]) -> list[Complex]:
    return [np.zeros(grid.wavenumber.shape, np.complex64) for _ in bands]


def _fluxes(magnitude: float, colours: tuple[float, float], bands: Sequence[str]) -> list[float]:
    magnitudes = {"g": magnitude + colours[0], "r": magnitude, "z": magnitude - colours[1]}
    return [float(10 ** (0.4 * (22.5 - magnitudes[band]))) for band in bands]


def _counts(generator: np.random.Generator, slope: float, bright: float, faint: float) -> float:
    low, high = 10 ** (slope * bright), 10 ** (slope * faint)
    return float(np.log10(low + generator.uniform() * (high - low)) / slope)


def _star_colours(generator: np.random.Generator, magnitude: float) -> tuple[float, float]:
    """The stellar locus: blue to g - r = 1.4, where M dwarfs, common among faint stars, go on in r - z alone."""
    if generator.uniform() < np.interp(magnitude, [16.0, 22.0], [0.12, 0.65]):
        return float(generator.normal(1.42, 0.06)), float(0.7 + 1.3 * generator.beta(1.2, 2.0))
    green_red = float(0.25 + 0.95 * generator.beta(1.2, 1.6))
    return green_red, 0.05 + 0.5 * green_red


@lru_cache(maxsize=4)
def _faint_modes(grid: Canvas) -> list[Float]:
    """Modes of each of `FAINT_SHAPES`."""
    return [_sersic_modes(grid, 1.0, radius, 0.6, angle) for radius, angle in FAINT_SHAPES]


def _sersic_modes(grid: Canvas, index: float, radius: float, axis_ratio: float, angle: float) -> Float:
    """Modes of a centred Sersic profile of unit flux and major-axis half-light radius `radius`."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = grid.kx * cos + grid.ky * sin
    across = (grid.ky * cos - grid.kx * sin) * np.float32(axis_ratio)
    step, values = _sersic_table(index)
    position = np.sqrt(along * along + across * across) * np.float32(radius / step)
    position = np.minimum(position, np.float32(len(values) - 2))
    low = position.astype(np.int32)
    part = position - low
    result: Float = values[low] * (1 - part) + values[low + 1] * part
    return result


@lru_cache(maxsize=4)
def _sersic_table(index: float) -> tuple[float, NDArray[np.float32]]:
    """Step, in radians, and GalSim's transform of a Sersic profile of half-light radius 1."""
    step = 0.05
    profile = galsim.Sersic(n=index, half_light_radius=1.0, flux=1.0)
    values = [profile.kValue(step * i, 0.0).real for i in range(1200)]
    return step, np.array(values, dtype=np.float32)
