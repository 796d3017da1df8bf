"""The order of rows on the sky, so that neighbours lie in one shard."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pandas as pd
from astropy_healpix import HEALPix

ORDER = 29
"""HEALPix order of the catalogue's column, as in HATS: cells of 0.4 milliarcseconds."""


def healpix_cells(ra: np.ndarray, dec: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Nested HEALPix cells of ICRS positions in degrees, (N,) int64; -1 where the position is NaN."""
    known = np.isfinite(ra) & np.isfinite(dec)
    cells = np.full(len(ra), -1, np.int64)
    if known.any():
        grid = HEALPix(nside=2**order, order="nested")
        cells[known] = grid.lonlat_to_healpix(np.asarray(ra)[known] * u.deg, np.asarray(dec)[known] * u.deg)
    return cells


def sort_by_sky(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `healpix` to a table with `object_id`, `ra`, `dec`, and sort by it; rows without a position come last.

    Equal cells, and rows without a position, are in the order of their object ids.
    """
    cells = healpix_cells(rows["ra"].to_numpy(np.float64), rows["dec"].to_numpy(np.float64))
    order = np.lexsort((rows["object_id"].to_numpy(np.str_), cells, cells < 0))
    return rows.assign(healpix=cells).iloc[order].reset_index(drop=True)
