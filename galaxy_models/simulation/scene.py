"""One simulated object: its truth, from the seed alone, and its stamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .canvas import Canvas, Complex, Float, canvas
from .disk import draw_disk
from .disturbed import disturbed_modes
from .field import draw_field
from .galaxy import BANDS, Galaxy
from .lensing import lensed_arc
from .observing import Conditions, add_noise, draw_conditions, transfer
from .population import KIND_SHARES, draw_galaxy

DISTURBED_RADIUS = 4.0
"""Half-light radius of disturbed galaxies, arcsec, about."""

TRUTH_STREAM, PIXEL_STREAM, VOTE_STREAM = 0, 1, 2


@dataclass(frozen=True)
class SimulatedObject:
    """What object `index` of the set with `seed` is, and how it was observed."""

    seed: int
    index: int
    ra: float
    dec: float
    galaxy: Galaxy
    conditions: Conditions
    einstein_radius: float | None

    @property
    def signal_to_noise(self) -> float:
        """In r, within the half-light ellipse widened by the PSF, about."""
        i = self.conditions.bands.index("r") if "r" in self.conditions.bands else 0
        band = self.conditions.bands[i]
        radius = self.galaxy.half_light_radius if self.galaxy.disturbance == "" else DISTURBED_RADIUS
        axis_ratio = self.galaxy.axis_ratio if self.galaxy.disturbance == "" else 0.7
        area = np.pi * (radius**2 * axis_ratio + (self.conditions.psf_fwhm[i] / 2) ** 2)
        pixels = area / self.conditions.pixel_scale**2
        return float(0.5 * self.galaxy.flux(band) / (self.conditions.noise[i] * np.sqrt(pixels)))


@dataclass(frozen=True, eq=False)
class SimulatedStamp:
    """(C, size, size) float32 nanomaggies per pixel, and the arc's (size, size) bool mask, None if there is no arc."""

    flux: Float
    lens_mask: NDArray[np.bool_] | None


def draw_object(
    seed: int,
    index: int,
    *,
    bands: Sequence[str] = BANDS,
    pixel_scale: float = 0.262,
    lens_rate: float = 0.05,
    merger_rate: float = 0.06,
) -> SimulatedObject:
    """The truth of one object; no pixel is drawn.

    Parameters
    ----------
    seed, index
        Decide everything: the object is the same alone, in any batch and in any order.
    lens_rate, merger_rate
        Shares of objects that lens an arc, and that are disturbed.

    Raises
    ------
    ValueError
        If a band has no colours here.
    """
    unknown = [band for band in bands if band not in BANDS]
    if unknown:
        raise ValueError(f"simulated galaxies have colours in the bands {list(BANDS)}, not in {unknown}")
    generator = stream(seed, index, TRUTH_STREAM)
    # A patch of 10 x 10 degrees about the equator's (150, +2), uniform on the sphere.
    low, high = np.sin(np.deg2rad([-3.0, 7.0]))
    ra = float(145 + 10 * generator.uniform())
    dec = float(np.rad2deg(np.arcsin(low + (high - low) * generator.uniform())))
    conditions = draw_conditions(generator, bands, pixel_scale)
    lot = generator.uniform()
    einstein_radius = None
    if lot < lens_rate:
        kind = "round_smooth" if generator.uniform() < 0.6 else "in_between_smooth"
        einstein_radius = float(1.1 + 2.0 * generator.beta(1.3, 2.2))
    elif lot < lens_rate + merger_rate:
        kind = "disturbed"
    else:
        kind = str(generator.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    galaxy = draw_galaxy(generator, kind, deflector=einstein_radius is not None, reddening=conditions.reddening)
    return SimulatedObject(seed, index, ra, dec, galaxy, conditions, einstein_radius)


def draw_stamp(simulated: SimulatedObject, size: int, *, noise: bool = True, field: bool = True) -> SimulatedStamp:
    """Draw the object's stamp; `noise` and `field` may be left out to see the galaxy alone."""
    grid = canvas(size, simulated.conditions.pixel_scale)
    galaxy, conditions = simulated.galaxy, simulated.conditions
    # One generator for each part, so that leaving one out changes no other.
    structure, others, arc_chance, noise_chance = (
        np.random.default_rng(child)
        for child in np.random.SeedSequence([simulated.seed, simulated.index, PIXEL_STREAM]).spawn(4)
    )
    modes = galaxy_modes(grid, galaxy, conditions.bands, structure)
    if field:
        clear = DISTURBED_RADIUS if galaxy.disturbance else 1.2 + galaxy.half_light_radius
        around = draw_field(grid, conditions.bands, others, clear_radius=clear)
        modes = [own + other for own, other in zip(modes, around, strict=True)]
    flux = np.stack(
        [
            grid.stamp(mode * transfer(grid.wavenumber, fwhm))
            for mode, fwhm in zip(modes, conditions.psf_fwhm, strict=True)
        ]
    )
    mask = None
    if simulated.einstein_radius is not None:
        modulus = 0.8 * (1 - galaxy.axis_ratio) / (1 + galaxy.axis_ratio)
        arc = lensed_arc(
            arc_chance,
            size=size,
            pixel_scale=conditions.pixel_scale,
            psf_fwhm=conditions.psf_fwhm,
            bands=conditions.bands,
            einstein_radius=simulated.einstein_radius,
            deflector_ellipticity=(modulus * np.cos(2 * galaxy.angle), modulus * np.sin(2 * galaxy.angle)),
        )
        flux = flux + arc.flux
        mask = arc.mask
    if noise:
        flux = add_noise(flux, conditions, noise_chance)
    return SimulatedStamp(flux=flux.astype(np.float32), lens_mask=mask)


def galaxy_modes(grid: Canvas, galaxy: Galaxy, bands: tuple[str, ...], generator: np.random.Generator) -> list[Complex]:
    """Fourier modes of the galaxy before the PSF, one array per band, nanomaggies."""
    shift = grid.shift(*galaxy.offset)
    if galaxy.disturbance:
        return [mode * shift for mode in disturbed_modes(grid, galaxy, bands, generator)]
    bulge = None
    if galaxy.bulge is not None and max(galaxy.bulge_flux) > 0:
        bulge = grid.sersic(galaxy.bulge.radius, galaxy.bulge.sersic_index, galaxy.bulge.axis_ratio, galaxy.angle)
    layers = None if galaxy.disk is None else draw_disk(grid, galaxy.disk, galaxy.angle, generator)
    modes: list[Complex] = []
    for band in bands:
        i = BANDS.index(band)
        image = np.zeros((grid.fine, grid.fine), np.float32)
        if bulge is not None:
            image += bulge * np.float32(galaxy.bulge_flux[i])
        if layers is not None:
            disk = layers.old * np.float32(galaxy.disk_flux[i]) + layers.young * np.float32(galaxy.young_flux[i])
            image += disk
            # A lane dims the bulge behind it too when the disk is seen from the side.
            image = layers.seen(image, band)
        modes.append(grid.transform(image) * shift)
    return modes


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose of one object."""
    return np.random.default_rng(np.random.SeedSequence([seed, index, purpose]))
