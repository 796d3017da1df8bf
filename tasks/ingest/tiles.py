"""A survey's tiles: where their centres are, and which one covers an object's surroundings best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from galaxy_models.photometry import ZERO_POINT
from infra.errors import GalaxyError
from tasks.ingest.source_kinds import TileColumns
from tasks.ingest.table_batches import read_table

NEIGHBOURS = 9
"""Nearest tiles that are looked at: a tile and all around it."""

BLOCK = 20_000
"""Positions that are looked at together, each with its neighbours."""

SIGMAS = 5.0
"""Of the point source whose magnitude a table of tiles calls the depth."""

ARCSEC = np.pi / 180 / 3600


class TileTable:
    """The tiles of a survey, from its own table.

    Parameters
    ----------
    place
        Path or URL of the table.
    what
        How messages call the source.

    Raises
    ------
    GalaxyError
        If the table or one of its columns is missing, or a tile is there twice.
    """

    def __init__(self, place: str, columns: TileColumns, what: str) -> None:
        table = read_table(place, [columns.name, columns.name.lower(), columns.name.upper()], what)
        table.columns = pd.Index([str(name).lower() for name in table.columns])
        absent = [name for name in (columns.name, columns.ra, columns.dec) if name.lower() not in table]
        if absent:
            raise GalaxyError(
                f"{what}: the table of tiles {place} has no column {', '.join(absent)}; it has "
                f"{', '.join(table.columns)}. Correct `tile_columns` in the survey definition"
            )
        names = table[columns.name.lower()].astype(str).str.strip()
        if names.duplicated().any():
            raise GalaxyError(f"{what}: tile {names[names.duplicated()].iloc[0]} is twice in {place}; remove one")
        self.names = names.to_numpy(object)
        self._table = table
        self._ra, self._dec = (table[name.lower()].to_numpy(np.float64) for name in (columns.ra, columns.dec))
        self._tree = cKDTree(_axes(self._ra, self._dec)[0])

    def best(self, ra: np.ndarray, dec: np.ndarray, side: int, stamp: int, pixel_scale: float) -> np.ndarray:
        """(N,) row of the tile whose edges are farthest from each position; -1 where a stamp would touch no tile.

        Parameters
        ----------
        ra, dec
            Degrees.
        side, stamp
            Of a tile and of a stamp, pixels of `pixel_scale` arcsec. Tiles are squares in the tangent plane of their
            centre, north up.
        """
        best = np.full(len(ra), -1)
        known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        for first in range(0, len(known), BLOCK):
            rows = known[first : first + BLOCK]
            best[rows] = self._best(ra[rows], dec[rows], side, stamp, pixel_scale)
        return best

    def _best(self, ra: np.ndarray, dec: np.ndarray, side: int, stamp: int, pixel_scale: float) -> np.ndarray:
        objects = _axes(ra, dec)[0]
        count = min(NEIGHBOURS, len(self.names))
        nearest = self._tree.query(objects, k=[*range(1, count + 1)])[1]
        centre, east, north = _axes(self._ra[nearest], self._dec[nearest])
        depth = np.einsum("nkx,nx->nk", centre, objects)
        with np.errstate(divide="ignore", invalid="ignore"):
            offsets = [np.abs(np.einsum("nkx,nx->nk", axis, objects) / depth) for axis in (east, north)]
        distance = np.where(depth > 0, np.maximum(*offsets), np.inf) / ARCSEC / pixel_scale  # pixels, to the centre
        first = distance.argmin(axis=1)
        rows = np.arange(len(objects))
        touches = distance[rows, first] < (side + stamp) / 2
        return np.where(touches, nearest[rows, first], -1)

    def names_by_id(self) -> dict[int, str] | None:
        """Tile's name by `brickid`; None if the table has no such column."""
        if "brickid" not in self._table:
            return None
        return dict(zip(self._table["brickid"].astype(int).tolist(), self.names, strict=True))

    def observed(self, rows: np.ndarray, bands: Sequence[str]) -> pd.DataFrame:
        """What the table says of the observation of each row (-1: nothing), as far as it has them.

        `psf_size_<band>` (FWHM, arcsec), `depth_<band>` (inverse variance of a point source's flux, 1/nanomaggy^2; the
        table has the magnitude at 5 sigma) and `ebv`.
        """
        sources = {f"psf_size_{band}": f"psfsize_{band}" for band in bands}
        sources |= {f"depth_{band}": f"psfdepth_{band}" for band in bands} | {"ebv": "ebv"}
        known = rows >= 0
        found = {}
        for name, column in sources.items():
            if column in self._table:
                values = self._table[column].to_numpy(np.float64)[rows]
                if name.startswith("depth_"):
                    values = (SIGMAS / 10 ** ((ZERO_POINT - values) / 2.5)) ** 2
                found[name] = np.where(known, values, np.nan)
        return pd.DataFrame(found, index=pd.RangeIndex(len(rows)))


def _axes(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (..., 3) to positions in degrees, and to the east and north of them."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    sin_lon, cos_lon, sin_lat, cos_lat = np.sin(longitude), np.cos(longitude), np.sin(latitude), np.cos(latitude)
    centre = np.stack([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat], axis=-1)
    east = np.stack([-sin_lon, cos_lon, np.zeros_like(longitude)], axis=-1)
    north = np.stack([-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat], axis=-1)
    return centre, east, north
