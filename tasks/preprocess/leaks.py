"""Whether stamps of different splits share sky: every pair is looked at, not the rule that made the splits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from infra.errors import GalaxyError
from tasks.preprocess.duplicates import ARCSEC, unit_vectors
from tasks.preprocess.splits import SPLITS


def closest_across_splits(catalog: pd.DataFrame, splits: np.ndarray, widths: np.ndarray) -> float:
    """Smallest separation of two objects in different splits, arcsec; NaN where there are no two with positions.

    Parameters
    ----------
    catalog
        `object_id`, `ra`, `dec` (degrees, NaN unknown).
    splits
        (N,) split of each row; rows in none of `SPLITS` are used nowhere, and left out.
    widths
        (N,) width of the stamps on the sky, arcsec.

    Raises
    ------
    GalaxyError
        If two stamps of different splits share sky: their centres are nearer than half of both diagonals, so that
        there is a way to turn them in which they overlap.
    """
    ra, dec = catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float)
    placed = np.isfinite(ra) & np.isfinite(dec)
    rows = {split: np.flatnonzero(placed & (splits == split)) for split in SPLITS}
    trees = {split: cKDTree(unit_vectors(ra[there], dec[there])) for split, there in rows.items() if len(there)}
    closest = np.nan
    for one, other in combinations(trees, 2):
        nearest, _ = trees[one].query(trees[other].data)
        closest = np.fmin(closest, _arcsec(nearest.min()))
        reach = (widths[rows[one]].max() + widths[rows[other]].max()) / 2**0.5
        pairs = trees[one].sparse_distance_matrix(trees[other], _chord(reach), output_type="ndarray")
        first, second = rows[one][pairs["i"]], rows[other][pairs["j"]]
        apart = _arcsec(pairs["v"])
        shared = np.flatnonzero(apart < (widths[first] + widths[second]) / 2**0.5)
        if len(shared):
            pair = shared[apart[shared].argmin()]
            names = catalog["object_id"].iloc[[first[pair], second[pair]]].tolist()
            raise GalaxyError(
                f"{len(shared)} pairs of stamps of the splits {one} and {other} share sky; the nearest are {names[0]} "
                f'and {names[1]}, {apart[pair]:.1f}" apart. Nothing is published. Lower '
                "preprocess.split_cell_order in the profile, and report this as a fault of the splits"
            )
    return float(closest)


def _chord(arcsec: float) -> float:
    return float(2 * np.sin(min(arcsec * ARCSEC, np.pi) / 2))


def _arcsec(chord: np.ndarray) -> np.ndarray:
    return np.asarray(2 * np.arcsin(np.clip(chord / 2, 0, 1)) / ARCSEC)
