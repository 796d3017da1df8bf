"""What a simulated galaxy is made of, and the quantities that follow from it without drawing a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv, k1

BANDS = ("g", "r", "z")
"""Bands that colours are known for."""

CLASSES = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral", "disturbed")
"""The classes. About one galaxy in seventeen is of none of them: see `FEATURED_DISK`."""

FEATURED_DISK = "featured_disk"
"""Kind of a face-on disk with a bar or ring and no arms: it has votes and parameters, and no class."""

YOUNG_SCALE = 1.25
"""Scale radius of the young stars over that of the old ones."""

YOUNG_HOLE = 0.6
"""Radius within which young stars are rare, in scale radii of the old disk."""

EDGE_ON_END = 3.6
"""Radius, in scale radii, where the stars of edge-on disks end, as they are seen to (van der Kruit 2001)."""


@dataclass(frozen=True)
class Bulge:
    """A Sersic spheroid; `radius` is its half-light radius along the major axis, arcsec."""

    radius: float
    sersic_index: float
    axis_ratio: float


@dataclass(frozen=True)
class Arms:
    """Logarithmic spiral arms, R = R0 exp(tan(pitch) * angle).

    `strength` is the contrast, 0 to 1; `phase` the angle of the first arm at one scale radius; `handedness` +1 or -1;
    `flocculence` how broken up they are, 0 to 1.
    """

    count: int
    pitch: float
    strength: float
    phase: float
    handedness: int
    flocculence: float


@dataclass(frozen=True)
class Bar:
    """A bar in the plane of the disk: semi-major axis in scale radii, its share of the disk's light, and its angle."""

    length: float
    fraction: float
    angle: float


@dataclass(frozen=True)
class Ring:
    """A ring in the plane of the disk: radius in scale radii and its share of the young stars' light."""

    radius: float
    fraction: float


@dataclass(frozen=True)
class Disk:
    """An exponential disk of old stars and a wider one of young stars.

    Attributes
    ----------
    scale_radius
        Of the old stars, arcsec.
    axis_ratio
        Apparent axis ratio, by second moments.
    thickness
        For edge-on disks the scale height of sech^2 over the scale radius; 0 for others, which are drawn thin.
    dust
        Optical depth in r of the dust lanes.
    """

    scale_radius: float
    axis_ratio: float
    thickness: float = 0.0
    dust: float = 0.0
    arms: Arms | None = None
    bar: Bar | None = None
    ring: Ring | None = None


@dataclass(frozen=True)
class Galaxy:
    """A galaxy as it is, before seeing and noise.

    Attributes
    ----------
    kind
        One of `CLASSES` or `FEATURED_DISK`.
    disturbance
        `pair`, `shells`, `irregular`, or an empty string.
    position_angle
        Of the major axis, degrees from north (row index grows) through east (column index falls), 0 to 180.
    half_light_radius
        Semi-major axis of the ellipse, of the galaxy's axis ratio, that holds half of the light in r, arcsec; for
        edge-on disks that of the disk seen face-on; NaN for disturbed galaxies.
    sersic_index
        Of the Sersic profile with the same R80 / R20; NaN for disturbed galaxies.
    bulge_flux, disk_flux, young_flux
        Nanomaggies in `BANDS` of the spheroid, the old and the young stars of the disk.
    """

    kind: str
    disturbance: str
    redshift: float
    position_angle: float
    axis_ratio: float
    half_light_radius: float
    sersic_index: float
    bulge: Bulge | None
    disk: Disk | None
    bulge_flux: tuple[float, ...]
    disk_flux: tuple[float, ...]
    young_flux: tuple[float, ...]
    offset: tuple[float, float]

    def flux(self, band: str) -> float:
        """Total flux in `band`, nanomaggies."""
        i = BANDS.index(band)
        return self.bulge_flux[i] + self.disk_flux[i] + self.young_flux[i]

    def magnitude(self, band: str) -> float:
        """Total AB magnitude in `band`."""
        return float(22.5 - 2.5 * np.log10(self.flux(band)))

    @property
    def angle(self) -> float:
        """Direction of the major axis in pixels, radians from the columns' axis to the rows' axis."""
        return float(np.deg2rad(self.position_angle) + np.pi / 2)


def sersic_enclosed(index: float, radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a Sersic profile's light within `radius` half-light radii (Graham and Driver 2005, eq. 2)."""
    scale = gammaincinv(2 * index, 0.5)
    enclosed: NDArray[np.float64] = gammainc(2 * index, scale * radius ** (1 / index))
    return enclosed


def light_profile(
    fractions: tuple[float, float, float], bulge: Bulge | None, disk: Disk | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the light within ellipses of the galaxy's axis ratio.

    Parameters
    ----------
    fractions
        Share of the light of bulge, old disk and young disk; they add up to 1.
    bulge, disk
        Their geometry; without a disk the ellipses are the bulge's.

    Returns
    -------
    radii, enclosed
        Semi-major axes, arcsec, growing, and the share of light within each.
    """
    if disk is None:
        assert bulge is not None
        radii = bulge.radius * np.geomspace(0.01, 40, 160)
        return radii, sersic_enclosed(bulge.sersic_index, radii / bulge.radius)
    x = np.geomspace(0.02, 25, 200)
    radii = x * disk.scale_radius
    bar, ring = disk.bar, disk.ring
    if disk.thickness > 0:
        within = x * np.exp(-x) * edge_on_end(x) * x  # the grid is even in the logarithm
        old = np.cumsum(within) / within.sum()
    else:
        old = 1 - (1 + x) * np.exp(-x)
    if bar is not None:
        # The bar's light lies within its length; how it is spread inside matters little at half of the light.
        old = (1 - bar.fraction) * old + bar.fraction * (1 - np.exp(-((x / (0.55 * bar.length)) ** 2)))
    young = np.interp(x, *_young_curve()) / _young_norm() if disk.thickness == 0 else old
    if ring is not None:
        young = (1 - ring.fraction) * young + ring.fraction * _annulus(x, ring)
    enclosed = fractions[1] * old + fractions[2] * young
    if bulge is not None and fractions[0] > 0:
        # In the plane where the bulge is round the disk's ellipse is another ellipse; average over its angle.
        squash = disk.axis_ratio / bulge.axis_ratio if disk.thickness == 0 else 1.0
        angle = (np.arange(12) + 0.5) * np.pi / 24
        stretch = 1 / np.sqrt(np.cos(angle) ** 2 + np.sin(angle) ** 2 / squash**2)
        reach = radii[:, None] * stretch[None, :] / bulge.radius
        enclosed = enclosed + fractions[0] * sersic_enclosed(bulge.sersic_index, reach).mean(axis=1)
    return radii, enclosed


def radius_enclosing(share: float, radii: NDArray[np.float64], enclosed: NDArray[np.float64]) -> float:
    """Radius that holds `share` of the light."""
    return float(np.exp(np.interp(share, enclosed, np.log(radii))))


def equivalent_sersic_index(radii: NDArray[np.float64], enclosed: NDArray[np.float64]) -> float:
    """Index of the Sersic profile with the same R80 / R20."""
    ratio = radius_enclosing(0.8, radii, enclosed) / radius_enclosing(0.2, radii, enclosed)
    indices, ratios = _concentration_table()
    return float(np.interp(ratio, ratios, indices))


def young_density(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Surface density of young stars at `x` scale radii, in units of 1 / scale radius^2, total 1."""
    hole = 1 - np.exp(-((x / np.float32(YOUNG_HOLE)) ** 2))
    density: NDArray[np.floating[Any]] = np.exp(-x / np.float32(YOUNG_SCALE)) * hole / np.float32(_young_norm())
    return density


def edge_on_end(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Share of stars left at `x` scale radii of an edge-on disk."""
    left: NDArray[np.floating[Any]] = 1 / (1 + np.exp((x - EDGE_ON_END) / 0.25))
    return left


@lru_cache(maxsize=1)
def edge_on_table() -> tuple[float, NDArray[np.floating[Any]]]:
    """Step in scale radii, and light of an edge-on exponential disk along its major axis, t K1(t), until it ends.

    After van der Kruit and Searle (1981); scaled so that its integral over both sides is 1.
    """
    step = 0.005
    t = np.arange(2000, dtype=np.float64) * step
    t[0] = 1e-9
    profile = t * k1(t) * edge_on_end(t)
    return step, profile / (2 * step * profile.sum())


def edge_on_axis_ratio(thickness: float) -> float:
    """Axis ratio by second moments of an edge-on disk with sech^2 layers: <v^2> is pi^2 / 12 heights^2."""
    step, profile = edge_on_table()
    t = np.arange(len(profile)) * step
    return float(np.sqrt(np.pi**2 / 12) * thickness / np.sqrt(2 * step * np.sum(t**2 * profile)))


@lru_cache(maxsize=1)
def _young_curve() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii in scale radii, and the young stars within each, not yet scaled to 1."""
    x = np.linspace(0, 30, 3001)
    ring = 2 * np.pi * x * np.exp(-x / YOUNG_SCALE) * (1 - np.exp(-((x / YOUNG_HOLE) ** 2)))
    return x, np.concatenate([[0.0], np.cumsum((ring[1:] + ring[:-1]) / 2 * np.diff(x))])


def _young_norm() -> float:
    return float(_young_curve()[1][-1])


def _annulus(x: NDArray[np.float64], ring: Ring) -> NDArray[np.float64]:
    fine = np.linspace(0, max(8.0, 3 * ring.radius), 600)
    density = fine * np.exp(-0.5 * ((fine - ring.radius) / (0.14 * ring.radius)) ** 2)
    enclosed = np.cumsum(density)
    within: NDArray[np.float64] = np.interp(x, fine, enclosed / enclosed[-1])
    return within


@lru_cache(maxsize=1)
def _concentration_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    indices = np.linspace(0.3, 8, 78)
    ratios = [
        (gammaincinv(2 * n, 0.8) / gammaincinv(2 * n, 0.2)) ** n  # the scale b_n cancels
        for n in indices
    ]
    return indices, np.array(ratios)
