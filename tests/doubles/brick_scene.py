"""The sky over bricks: objects of which a catalogue says all, and how they look on an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import galsim
import numpy as np
import pandas as pd

from galaxy_models.photometry import ZERO_POINT
from galaxy_models.simulation.galaxy import BANDS
from galaxy_models.simulation.lensing import MOFFAT_BETA
from galaxy_models.simulation.observing import SURVEY_PIXEL
from tests.doubles.brick import Brick, Float


def draw_objects(generator: np.random.Generator, galaxies: int, stars: int) -> pd.DataFrame:
    """Objects without places: one Sersic profile or a point each, so that what a catalogue says of them is all."""
    count = galaxies + stars
    star = np.arange(count) >= galaxies
    low, high = 10 ** (0.28 * np.array([16.2, 22.8]))
    magnitude = np.log10(low + generator.uniform(size=count) * (high - low)) / 0.28
    radius = np.clip(2.4 * 10 ** (-0.13 * (magnitude - 17.5) + 0.15 * generator.standard_normal(count)), 0.3, 8.0)
    kind = np.where(magnitude > 21.5, "REX", generator.choice(["EXP", "DEV", "SER"], count, p=[0.5, 0.25, 0.25]))
    kind = np.where(star, "PSF", kind)
    index = np.select([kind == "PSF", kind == "DEV", kind == "SER"], [0.0, 4.0, generator.choice([1.6, 2.5], count)], 1)
    axis_ratio = np.where((kind == "PSF") | (kind == "REX"), 1.0, generator.uniform(0.25, 1.0, count))
    ellipticity = (1 - axis_ratio) / (1 + axis_ratio)
    angle = generator.uniform(0, np.pi, count)
    red = np.where(star, generator.uniform(-0.2, 1.2, count), (index > 2) + generator.normal(0, 0.15, count))
    colour = {"g": 0.5 + 0.5 * red, "r": np.zeros(count), "z": -(0.35 + 0.35 * red)}
    objects = pd.DataFrame({"type": kind, "shape_r": np.where(star, 0.0, radius)})
    objects["shape_e1"] = ellipticity * np.cos(2 * angle)
    objects["shape_e2"] = ellipticity * np.sin(2 * angle)
    objects["sersic"] = index
    for band in BANDS:
        objects[f"flux_{band}"] = 10 ** (0.4 * (ZERO_POINT - magnitude - colour[band]))
    return objects


def draw_scene(bricks: Sequence[Brick], galaxies_per_brick: int, starred: Sequence[Brick], seed: int) -> pd.DataFrame:
    """The sky under all bricks, as far as their images reach; neighbours that are not there own its rim."""
    reach = bricks[0].side * SURVEY_PIXEL / 3600
    rim = (reach - (bricks[0].dec2 - bricks[0].dec1)) / 2
    ra = np.array([bricks[0].ra1, bricks[-1].ra2]) + np.array([-rim, rim]) / np.cos(np.deg2rad(bricks[0].dec))
    dec = np.array([bricks[0].dec1 - rim, bricks[-1].dec2 + rim])
    own = (bricks[0].ra2 - bricks[0].ra1) * (bricks[0].dec2 - bricks[0].dec1)
    galaxies = round(galaxies_per_brick * float(np.ptp(ra) * np.ptp(dec)) / own)
    generator = np.random.default_rng([seed, 1])
    scene = draw_objects(generator, galaxies, galaxies // 4)
    scene["ra"], scene["dec"] = generator.uniform(*ra, len(scene)), generator.uniform(*dec, len(scene))
    for brick in starred:
        place = brick.wcs.pixel_to_world_values(0.75 * brick.side, 0.25 * brick.side)
        flux = 10 ** (0.4 * (ZERO_POINT - 11))
        star = {"type": "PSF", "ra": float(place[0]), "dec": float(place[1])} | {f"flux_{b}": flux for b in BANDS}
        scene = pd.concat([scene, pd.DataFrame([star])], ignore_index=True).fillna(0.0)
    scene["source"] = np.arange(len(scene))
    return scene


def profile_of(row: Any) -> galsim.GSObject | None:
    """A galaxy's unit flux before seeing, x along columns to the west, y along rows to the north; None for a star."""
    if row.type == "PSF":
        return None
    ellipticity = np.hypot(row.shape_e1, row.shape_e2)
    # `shape_r` is along the major axis, GalSim's radius that of the circle of the same area.
    radius = row.shape_r * np.sqrt((1 - ellipticity) / (1 + ellipticity))
    # From north through east, which is to the left: a quarter turn on from x.
    angle = np.arctan2(row.shape_e2, row.shape_e1) / 2 + np.pi / 2
    return galsim.Sersic(n=row.sersic, half_light_radius=radius).shear(g=ellipticity, beta=angle * galsim.radians)


def stamp_width(radius: float) -> int:
    return 2 * int(min(12 + 9 * radius, 45) / SURVEY_PIXEL) + 1


def draw_stamp(
    profile: galsim.GSObject | None, fwhm: float, width: int, offset: tuple[float, float] = (0.0, 0.0)
) -> Float:
    """(width, width) share of the flux per pixel, centred on the middle pixel plus `offset`."""
    seeing = galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm)
    seen = seeing if profile is None else galsim.Convolve(profile, seeing)
    image = galsim.ImageF(width, width, scale=SURVEY_PIXEL)
    # The survey's PSF sizes are measured on images, so they hold the pixel already.
    stamp: Float = seen.drawImage(image, method="no_pixel", offset=offset).array
    return stamp


def paste(sky: Float, stamp: Float, flux: float, column: int, row: int) -> None:
    half, side = len(stamp) // 2, len(sky)
    left, low = column - half, row - half
    part = stamp[max(-low, 0) : side - low, max(-left, 0) : side - left]
    if part.size:
        sky[max(low, 0) : low + len(stamp), max(left, 0) : left + len(stamp)] += np.float32(flux) * part
