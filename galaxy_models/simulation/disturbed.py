"""Galaxies that are not in equilibrium: interacting pairs, ellipticals with shells, irregulars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Complex, Float, clumps
from .encounter import Encounter, draw_encounter
from .galaxy import BANDS, Galaxy

SMOOTHING = (0.10, 0.17, 0.30, 0.55)
"""Gaussian widths that stars are smoothed by, scale radii; sparser ones by more."""


def disturbed_modes(
    grid: Canvas, galaxy: Galaxy, bands: tuple[str, ...], generator: np.random.Generator
) -> list[Complex]:
    """Modes of the whole disturbed system, one array per band, nanomaggies, at the centre of the stamp."""
    if galaxy.disturbance == "pair":
        return _pair(grid, galaxy, bands, generator)
    if galaxy.disturbance == "shells":
        return _one_colour(grid, galaxy, bands, _shells(grid, galaxy, generator))
    return _irregular(grid, galaxy, bands, generator)


def _pair(grid: Canvas, galaxy: Galaxy, bands: tuple[str, ...], generator: np.random.Generator) -> list[Complex]:
    assert galaxy.disk is not None and galaxy.bulge is not None
    encounter = draw_encounter(generator)
    # Systems are scaled so that bridge and companion stay within the stamp.
    farthest = float(np.hypot(*encounter.companion))
    arcsec = min(0.8 * galaxy.disk.scale_radius, 0.42 * grid.size * grid.pixel_scale / max(farthest + 2, 6.0))
    share = encounter.mass_ratio / (1 + encounter.mass_ratio)
    old_share = share * generator.uniform(0.7, 1.2)
    young_share = share * generator.uniform(0.5, 1.4)
    old, young = (
        _stars(grid, encounter, arcsec, companion_share, clumpy, generator)
        for companion_share, clumpy in ((old_share, 0.0), (young_share, 0.8))
    )
    bulges = (1 - share) * grid.transform(_nucleus(grid, galaxy, arcsec, 1.0, generator))
    second = grid.transform(_nucleus(grid, galaxy, arcsec, encounter.mass_ratio**0.5, generator))
    x, y = encounter.companion * arcsec
    bulges = bulges + share * second * grid.shift(float(x), float(y))
    return [
        (galaxy.bulge_flux[i] * bulges + galaxy.disk_flux[i] * old + galaxy.young_flux[i] * young).astype(np.complex64)
        for i in (BANDS.index(band) for band in bands)
    ]


def _stars(
    grid: Canvas,
    encounter: Encounter,
    arcsec: float,
    companion_share: float,
    clumpy: float,
    generator: np.random.Generator,
) -> Complex:
    """Modes of the stars' light, total 1, smoothed more where they are sparse."""
    stars, second = encounter.stars, encounter.of_companion
    weight = np.where(second, companion_share / max(second.sum(), 1), (1 - companion_share) / (~second).sum())
    weight = weight * np.exp(clumpy * generator.standard_normal(len(weight)) - clumpy**2 / 2)
    weight /= weight.sum()
    level = _sparseness(stars)
    modes = np.zeros(grid.wavenumber.shape, np.complex64)
    for i, width in enumerate(SMOOTHING):
        chosen = level == i
        image = grid.deposit(stars[chosen, 0] * arcsec, stars[chosen, 1] * arcsec, weight[chosen])
        modes += grid.transform(image) * np.exp(np.float32(-0.5 * (width * arcsec) ** 2) * grid.wavenumber**2)
    return modes


def _sparseness(stars: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into `SMOOTHING` for each star, from the number of stars in its cell of half a scale radius."""
    cells = np.floor(stars / 0.5).astype(np.int64)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    width = 1.3 / np.sqrt(counts[cell.ravel()])
    nearest: NDArray[np.int64] = np.abs(np.log(width[:, None] / np.array(SMOOTHING)[None, :])).argmin(axis=1)
    return nearest


def _nucleus(grid: Canvas, galaxy: Galaxy, arcsec: float, factor: float, generator: np.random.Generator) -> Float:
    assert galaxy.bulge is not None
    radius = max(0.45 * arcsec * factor, 0.3)
    return grid.sersic(radius, galaxy.bulge.sersic_index, generator.uniform(0.65, 0.95), generator.uniform(0, np.pi))


def _one_colour(grid: Canvas, galaxy: Galaxy, bands: tuple[str, ...], image: Float) -> list[Complex]:
    modes = grid.transform(image)
    return [modes * np.float32(galaxy.bulge_flux[BANDS.index(band)]) for band in bands]


def _shells(grid: Canvas, galaxy: Galaxy, generator: np.random.Generator) -> Float:
    """An elliptical with sharp-edged shells on alternate sides of its axis, total 1."""
    assert galaxy.bulge is not None
    bulge = galaxy.bulge
    smooth = grid.sersic(bulge.radius, bulge.sersic_index, bulge.axis_ratio, galaxy.angle)
    cos, sin = np.float32(np.cos(galaxy.angle)), np.float32(np.sin(galaxy.angle))
    x, y = grid.x * cos + grid.y * sin, grid.y * cos - grid.x * sin
    radius = np.sqrt(x * x + (y / np.float32(bulge.axis_ratio)) ** 2)
    azimuth = np.arctan2(y, x)
    shells = np.zeros_like(smooth)
    reach = bulge.radius * generator.uniform(0.9, 1.2)
    for i in range(int(generator.integers(2, 5))):
        toward = np.float32(i % 2 * np.pi + 0.25 * generator.standard_normal())
        wide = np.exp(np.float32(2.2) * (np.cos(azimuth - toward) - 1))
        edge = 1 / (1 + np.exp(np.minimum((radius - np.float32(reach)) / np.float32(0.05 * bulge.radius), 60)))
        shells += wide * edge * (radius / np.float32(reach)) ** 3 / np.float32(reach)
        reach *= generator.uniform(1.25, 1.55)
    share = generator.uniform(0.10, 0.22)
    return smooth * np.float32(1 - share) + shells * np.float32(share * smooth.sum() / shells.sum())


def _irregular(grid: Canvas, galaxy: Galaxy, bands: tuple[str, ...], generator: np.random.Generator) -> list[Complex]:
    """A flat, lopsided disk whose young stars sit in a few large clumps, with an off-centre bar."""
    assert galaxy.disk is not None
    disk = galaxy.disk
    cos, sin = np.float32(np.cos(galaxy.angle)), np.float32(np.sin(galaxy.angle))
    scale = np.float32(0.8 * disk.scale_radius)
    x = (grid.x * cos + grid.y * sin) / scale
    y = (grid.y * cos - grid.x * sin) / np.float32(scale * disk.axis_ratio)
    bent = y + np.float32(0.12 * generator.standard_normal()) * x * np.abs(x)
    shift_x, shift_y = (np.float32(value) for value in 0.35 * generator.standard_normal(2))
    radius = np.sqrt((x - shift_x) ** 2 + (bent - shift_y) ** 2)
    # Flatter in the middle than an exponential, and gone sooner outside.
    body = np.exp(-((radius / np.float32(1.6)) ** np.float32(1.5)))
    bar = np.exp(-((x / np.float32(0.9)) ** 2) - ((bent / np.float32(0.3)) ** 2))
    old = body * np.exp(np.float32(0.35) * clumps(x * 1.2, bent * 1.2, generator)) + np.float32(0.5) * bar
    patches = clumps(x * np.float32(1.3), bent * np.float32(1.3), generator)
    knots = clumps(x * np.float32(2.4), bent * np.float32(2.4) + patches, generator)
    young = body * np.exp(np.float32(0.9) * patches + np.float32(0.45) * knots)
    old_modes, young_modes = (grid.transform(layer / layer.sum()) for layer in (old, young))
    return [
        galaxy.disk_flux[i] * old_modes + galaxy.young_flux[i] * young_modes
        for i in (BANDS.index(band) for band in bands)
    ]
