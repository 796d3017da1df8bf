"""Which rows are the same object: near on the sky, or the same pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

ARCSEC = np.pi / 180 / 3600


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N, 3) vectors of positions in degrees."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    return np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=-1
    )


def near_pairs(ra: np.ndarray, dec: np.ndarray, radius: float) -> np.ndarray:
    """(M, 2) pairs of rows nearer than `radius` arcsec; rows without a position have none.

    Distances are chords between unit vectors, right at the poles and across 0h.
    """
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if radius <= 0 or len(known) < 2:
        return np.empty((0, 2), np.int64)
    tree = cKDTree(unit_vectors(ra[known], dec[known]))
    pairs = tree.query_pairs(2 * np.sin(radius * ARCSEC / 2), output_type="ndarray")
    return known[pairs].astype(np.int64).reshape(-1, 2)


def equal_pairs(values: pd.Series) -> np.ndarray:
    """(M, 2) pairs that chain rows with the same value; a missing value equals none."""
    known = np.flatnonzero(values.notna().to_numpy())
    codes, _ = pd.factorize(values.iloc[known])
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    return np.stack([known[order][:-1][same], known[order][1:][same]], axis=1).astype(np.int64)


def connect(count: int, pairs: Iterable[np.ndarray]) -> np.ndarray:
    """(count,) int64 group of each row: the lowest row that it is connected with, over any number of pairs."""
    every = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    graph = coo_matrix((np.ones(len(every), bool), (every[:, 0], every[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    lowest = np.full(labels.max(initial=-1) + 1, count, np.int64)
    np.minimum.at(lowest, labels, np.arange(count))
    return lowest[labels]


def duplicate_groups(catalog: pd.DataFrame, pixel_hash: pd.Series, radius: float) -> np.ndarray:
    """(N,) int64 group of each row; rows of one group are one object, across sources too.

    Parameters
    ----------
    catalog
        `ra`, `dec` in degrees, NaN where unknown.
    pixel_hash
        Hash of each stamp, missing where there is none.
    radius
        Objects nearer than this are one, arcsec.
    """
    near = near_pairs(catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float), radius)
    return connect(len(catalog), [near, equal_pairs(pixel_hash)])
