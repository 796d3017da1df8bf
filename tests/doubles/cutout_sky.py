"""Skies that a cutout server can show: simulated galaxies at given positions, or real cubes of the Legacy Surveys."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from scipy.ndimage import map_coordinates

from galaxy_models.photometry import viewer_rgb
from galaxy_models.simulation.galaxy import BANDS
from galaxy_models.simulation.scene import draw_object, draw_stamp

NOISE = 0.01
"""Of a pixel of the simulated sky, nanomaggies."""

MATCH = 2 / 3600
"""Degrees within which a position is that of a picture."""


class Sky(Protocol):
    """What a server shows."""

    bands: str
    """Bands of the layer."""

    def fluxes(self, ra: float, dec: float, bands: str, size: int, scale: float) -> np.ndarray | None:
        """(C, size, size) float32 nanomaggies about a position, row 0 south, 0 without data; None outside of all."""

    def inverse_variance(self, fluxes: np.ndarray) -> np.ndarray:
        """(C, size, size) float32, 0 without data."""

    def picture(self, ra: float, dec: float, bands: str, size: int, scale: float) -> Image.Image:
        """A colour picture, row 0 north."""


def tangent_plane(ra: float, dec: float, size: int, scale: float) -> WCS:
    """The coordinates of a cutout as the survey's service has them: TAN, north up, east left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(size + 1) / 2] * 2
    wcs.wcs.cd = [[-scale / 3600, 0], [0, scale / 3600]]
    return wcs


def stretch(fluxes: np.ndarray | None, bands: str, size: int) -> Image.Image:
    """The viewer's picture of (3, size, size) fluxes; without any it is that of a flux of zero: flat."""
    planes = np.zeros((3, size, size), np.float32) if fluxes is None else fluxes
    rgb = viewer_rgb(torch.from_numpy(planes)[None], tuple(bands))[0].numpy()
    return Image.fromarray((rgb[:, ::-1].transpose(1, 2, 0) * 255).astype(np.uint8))


class SimulatedSky:
    """Galaxies drawn by GalSim, number i at the i-th position, in noise that the position alone decides.

    Parameters
    ----------
    positions
        (N, 2) right ascension and declination, degrees.
    south
        There is no data below this declination, degrees, and no image farther than half a degree below it.
    """

    bands = "".join(BANDS)

    def __init__(self, positions: np.ndarray, *, seed: int = 0, south: float = -90.0) -> None:
        self.positions = np.asarray(positions, np.float64)
        self.south = south
        self._draw = lru_cache(maxsize=512)(
            lambda index, size, scale: (
                draw_stamp(draw_object(seed, index, pixel_scale=scale), size, noise=False, field=False).flux
            )
        )

    def fluxes(self, ra: float, dec: float, bands: str, size: int, scale: float) -> np.ndarray | None:
        if dec < self.south - 0.5:
            return None
        numbers = np.array([round(ra * 1e6), round(dec * 1e6) + 90_000_000, size])
        image = np.random.default_rng(numbers).normal(0, NOISE, (len(BANDS), size, size)).astype(np.float32)
        wcs = tangent_plane(ra, dec, size, scale)
        away = (self.positions[:, 0] - ra + 180) % 360 - 180
        near = (np.abs(away) * np.cos(np.radians(dec)) * 3600 < size * scale) & (
            np.abs(self.positions[:, 1] - dec) * 3600 < size * scale
        )
        for index in np.flatnonzero(near):
            x, y = (round(float(axis) - (size - 1) / 2) for axis in wcs.all_world2pix(*self.positions[index], 0))
            to, of = zip(*(_overlap(shift, size) for shift in (y, x)), strict=True)
            if min(part.stop - part.start for part in to) > 0:
                image[(slice(None), *to)] += self._draw(int(index), size, scale)[(slice(None), *of)]
        rows = wcs.all_pix2world(np.full(size, (size - 1) / 2), np.arange(size), 0)[1]
        image[:, rows < self.south] = 0
        return image[[BANDS.index(band) for band in bands]]

    def inverse_variance(self, fluxes: np.ndarray) -> np.ndarray:
        return np.where(fluxes != 0, np.float32(NOISE**-2), np.float32(0))

    def picture(self, ra: float, dec: float, bands: str, size: int, scale: float) -> Image.Image:
        return stretch(self.fluxes(ra, dec, bands, size, scale), bands, size)


class RealSky:
    """The cubes of `legacy_fits` in the folder GALAXY_SKY, and the pictures of its `stripe82` where there are no cubes.

    Cubes are resampled linearly; a cutout about a cube's own centre, at its own scale, is a piece of it as it is.
    """

    bands = "grz"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fluxes(self, ra: float, dec: float, bands: str, size: int, scale: float) -> np.ndarray | None:
        sky = tangent_plane(ra, dec, size, scale).all_pix2world(*np.mgrid[:size, :size][::-1], 0)
        for wcs, cube, own in self._cubes:
            height, width = cube.shape[1:]
            x, y = (float(axis) for axis in wcs.all_world2pix(ra, dec, 0))
            if not (0 <= x < width and 0 <= y < height):
                continue
            place = np.array(wcs.all_world2pix(*sky, 0))[::-1]
            place = np.where(np.abs(place - np.rint(place)) < 1e-3, np.rint(place), place)
            planes = [map_coordinates(plane, place, order=1, cval=0) for plane in cube]
            factor = np.float32((scale / own) ** 2)
            return np.stack([planes[self.bands.index(band)] for band in bands]) * factor
        return None

    def inverse_variance(self, fluxes: np.ndarray) -> np.ndarray:
        return np.where(fluxes != 0, np.float32(1 / 0.01**2), np.float32(0))

    def picture(self, ra: float, dec: float, bands: str, size: int, scale: float) -> Image.Image:
        table = self._pictures
        if len(table):
            away = np.hypot((table["ra"] - ra) * np.cos(np.radians(dec)), table["dec"] - dec)
            if away.min() < MATCH:
                picture = Image.open(self.folder / "stripe82/images" / table["filename"][away.idxmin()])
                edge = (min(picture.size) - size) // 2
                return picture.convert("RGB").crop((edge, edge, edge + size, edge + size))
        return stretch(self.fluxes(ra, dec, bands, size, scale), bands, size)

    @cached_property
    def _cubes(self) -> list[tuple[WCS, np.ndarray, float]]:
        found = []
        for path in sorted((self.folder / "legacy_fits").glob("*.fits.gz")):
            with fits.open(path) as file:
                wcs = WCS(file[0].header, naxis=2)
                scale = float(wcs.pixel_scale_matrix[1, 1] * 3600)
                found.append((wcs, np.asarray(file[0].data, np.float32), scale))
        return found

    @cached_property
    def _pictures(self) -> pd.DataFrame:
        table = self.folder / "stripe82/catalog.csv"
        return pd.read_csv(table) if table.exists() else pd.DataFrame(columns=["filename", "ra", "dec"])


def to_jpeg(picture: Image.Image) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def to_fits(
    fluxes: np.ndarray,
    invvar: np.ndarray | None,
    ra: float,
    dec: float,
    bands: Sequence[str],
    scale: float,
    *,
    turned: bool = False,
) -> bytes:
    """A file with the keys that the survey's service writes; `turned` says that east is right, which it never does."""
    size = fluxes.shape[-1]
    header = fits.Header([("SURVEY", "LegacySurvey"), ("VERSION", "DR9"), ("IMAGETYP", "IMAGE")])
    header["BANDS"] = "".join(bands)
    for i, band in enumerate(bands):
        header[f"BAND{i}"] = band
    header.update(tangent_plane(ra, dec, size, scale).to_header())
    for name in [*header["PC*"], *header["CDELT*"]]:
        del header[name]
    header.update({"CD1_1": (1 if turned else -1) * scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale / 3600})
    header.update({"IMAGEW": size, "IMAGEH": size})
    units: list[fits.PrimaryHDU | fits.ImageHDU] = [fits.PrimaryHDU(fluxes.astype(np.float32), header)]
    if invvar is not None:
        header["IMAGETYP"] = "INVVAR"
        units.append(fits.ImageHDU(invvar.astype(np.float32), header))
    file = io.BytesIO()
    fits.HDUList(units).writeto(file)
    return file.getvalue()


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where a square that lies `shift` pixels off falls into another, and which part of it that is."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))
