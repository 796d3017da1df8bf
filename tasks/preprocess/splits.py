"""Train, validation and test without shared sky: by cell of the sky, with a guard along the borders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.profile import PreprocessSettings
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.duplicates import ARCSEC, connect, equal_pairs, unit_vectors
from tasks.stamps.sky_order import healpix_cells

SPLITS = ("train", "validation", "test")
GUARD = "guard"

SALT = "galaxy-lvm"
"""Part of what is hashed; another one is another split."""

UNKNOWN_WIDTH = 120.0
"""Width of a stamp on the sky where neither pixel scale nor field of view is known, arcsec: wider than usual ones."""

RING_POINTS = 16
"""Directions in which an object looks for a border."""

FEW_CELLS = 8
"""With fewer occupied cells a split may be empty or tell of one place only."""

BLOCK = 100_000
"""Objects whose rings are in memory at once."""


def assign_splits(
    catalog: pd.DataFrame, groups: np.ndarray, widths: np.ndarray, settings: PreprocessSettings
) -> np.ndarray:
    """The split of each row.

    A row with a position has the split of its HEALPix cell, a row without one that of its field or, without
    a field, of its object id: hashes, so that it does not depend on other rows or their order. What must stay
    together may tie rows of two cells: a field or a group of duplicates that lies in cells of different splits
    is `guard`, as are objects within a stamp's width of a border between cells of different splits, with their
    duplicates. Two objects of different splits that are no guards are farther apart than both their stamps'
    widths together, so they share no pixel, however the stamps are turned.

    Parameters
    ----------
    catalog
        `object_id`, `source`, `ra`, `dec` (degrees, NaN unknown), `field` (None where there is none).
    groups
        (N,) duplicate group of each row.
    widths
        (N,) width of the stamps on the sky, arcsec.

    Returns
    -------
    ndarray
        (N,) `train`, `validation`, `test` or `guard`, dtype object.
    """
    ra, dec = catalog["ra"].to_numpy(float), catalog["dec"].to_numpy(float)
    placed = np.isfinite(ra) & np.isfinite(dec)
    cells = healpix_cells(ra, dec, settings.split_cell_order)
    codes = np.empty(len(catalog), np.int64)
    distinct, inverse = np.unique(cells[placed], return_inverse=True)
    codes[placed] = _codes([_cell_key(cell, settings) for cell in distinct], settings)[inverse.reshape(-1)]
    codes[~placed] = _codes(_keys(catalog[~placed]), settings)

    guard = np.zeros(len(catalog), bool)
    guard[placed] = _near_border(ra[placed], dec[placed], widths[placed], settings)
    guard = _any_of(groups, guard)

    together = connect(len(catalog), [equal_pairs(pd.Series(groups)), _same_field(catalog)])
    leader = _leaders(catalog, together, placed, cells, settings)
    guard |= _any_of(together, placed & (codes != codes[leader]))
    guard |= ~placed & _any_of(together, guard)
    codes = codes[leader]
    splits = np.array(SPLITS, object)[codes]
    splits[guard] = GUARD
    return splits


def stamp_widths(catalog: pd.DataFrame, definition: SurveyDefinition) -> np.ndarray:
    """(N,) width of each stamp on the sky, arcsec: from its pixel scale, else its source's field of view."""
    widths = definition.stamp_size * catalog["pixel_scale"].to_numpy(float)
    for source in definition.sources:
        field_of_view = getattr(source, "field_of_view", None) or UNKNOWN_WIDTH
        widths = np.where((catalog["source"] == source.name) & ~np.isfinite(widths), field_of_view, widths)
    return np.asarray(np.where(np.isfinite(widths), widths, UNKNOWN_WIDTH))


def check_splits(table: pd.DataFrame, settings: PreprocessSettings) -> list[str]:
    """What a user should know about the splits of each source, as sentences.

    Raises
    ------
    GalaxyError
        If a split of the whole dataset has no usable stamp: nothing could be trained or scored.
    """
    notes = []
    usable = table[table["usable"]]
    empty = [split for split in SPLITS if not (usable["split"] == split).any()]
    if empty:
        raise GalaxyError(
            f"no usable stamp is in the split {' and '.join(empty)}: {len(usable)} usable stamps lie in "
            f"{_cells(table, settings.split_cell_order)} sky cells of HEALPix order {settings.split_cell_order}. "
            f"Raise preprocess.split_cell_order in the profile ({_advice(table, settings)}), or give more objects"
        )
    for source, rows in usable.groupby("source"):
        empty = [split for split in SPLITS if not (rows["split"] == split).any()]
        cells = _cells(rows, settings.split_cell_order)
        if empty:
            notes.append(f"{source} has no usable stamp in the split {' and '.join(empty)}: no metric can be had there")
        if 0 < cells < FEW_CELLS:
            notes.append(
                f"{source} lies in {cells} sky cells of HEALPix order {settings.split_cell_order}; with fewer than "
                f"{FEW_CELLS} the splits' shares are left to chance ({_advice(rows, settings)})"
            )
    return notes


def _advice(rows: pd.DataFrame, settings: PreprocessSettings) -> str:
    for order in range(settings.split_cell_order + 1, 13):
        if (cells := _cells(rows, order)) >= FEW_CELLS:
            return f"order {order} has {cells} cells"
    return "no order up to 12 has enough cells"


def _cells(rows: pd.DataFrame, order: int) -> int:
    cells = healpix_cells(rows["ra"].to_numpy(float), rows["dec"].to_numpy(float), order)
    return len(np.unique(cells[cells >= 0]))


def _cell_key(cell: int, settings: PreprocessSettings) -> str:
    """Text whose hash decides the split of a cell."""
    return f"cell/{settings.split_cell_order}/{cell}"


def _keys(rows: pd.DataFrame) -> np.ndarray:
    """(n,) text whose hash decides the split of each row without a position."""
    objects = "object/" + rows["object_id"].astype(str)
    fields = "field/" + rows["source"].astype(str) + "/" + rows["field"].astype(str)
    return np.where(rows["field"].notna(), fields, objects).astype(object)


def _same_field(catalog: pd.DataFrame) -> np.ndarray:
    """(M, 2) pairs that chain the rows of each source's fields."""
    known = np.flatnonzero(catalog["field"].notna().to_numpy())
    rows = catalog.iloc[known]
    return known[equal_pairs((rows["source"].astype(str) + "/" + rows["field"].astype(str)).reset_index(drop=True))]


def _leaders(
    catalog: pd.DataFrame, together: np.ndarray, placed: np.ndarray, cells: np.ndarray, settings: PreprocessSettings
) -> np.ndarray:
    """(N,) the row whose split each row takes: its own, unless it stays together with others.

    These follow their rows with a position, of which the one whose cell comes first in the alphabet; without any, the
    row whose key does.
    """
    leaders = np.arange(len(catalog))
    several = np.flatnonzero(np.bincount(together, minlength=len(catalog))[together] > 1)
    keys = _keys(catalog.iloc[several])
    of_cell = placed[several]
    keys[of_cell] = [_cell_key(cell, settings) for cell in cells[several][of_cell]]
    _, groups = np.unique(together[several], return_inverse=True)
    groups = groups.reshape(-1)
    leaders[several] = several[_first_of(groups, keys, of_cell | ~_any_of(groups, of_cell))]
    return leaders


def _codes(keys: Sequence[str] | np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    """(N,) index into SPLITS of each key."""
    distinct, inverse = np.unique(np.asarray(keys, dtype=np.str_), return_inverse=True)
    number = np.array([_uniform(key) for key in distinct])
    test, validation = settings.test_fraction, settings.test_fraction + settings.validation_fraction
    return np.select([number < test, number < validation], [2, 1], 0)[inverse.reshape(-1)]


def _uniform(key: str) -> float:
    digest = hashlib.blake2b(f"{SALT}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _near_border(ra: np.ndarray, dec: np.ndarray, widths: np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    """(N,) whether a cell of another split is within the stamp's width, seen on rings around the object."""
    order = settings.split_cell_order
    cell_side = 58.6 * 60 / 2 ** (order - 6) * 0.94  # arcsec; 58.6 arcmin is order 0's square root of area over 64
    near = np.zeros(len(ra), bool)
    for start in range(0, len(ra), BLOCK):
        block = slice(start, start + BLOCK)
        centre = unit_vectors(ra[block], dec[block])
        own = _codes_at(centre, settings)
        # rings no farther apart than half a cell, so that none is stepped over
        rings = max(1, int(np.ceil(widths[block].max(initial=0) / (cell_side / 2))))
        for ring in range(1, rings + 1):
            for point in range(RING_POINTS):
                moved = _moved(centre, widths[block] * ring / rings, 2 * np.pi * point / RING_POINTS)
                near[block] |= _codes_at(moved, settings) != own
    return near


def _moved(centre: np.ndarray, distance: np.ndarray, direction: float) -> np.ndarray:
    """Unit vectors moved by `distance` arcsec into a direction of their tangent plane."""
    # any vector that is not parallel to the centre spans the tangent plane: the axis of its smallest component
    axis = np.eye(3)[np.abs(centre).argmin(axis=1)]
    first = np.cross(centre, axis)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(centre, first)
    tangent = np.cos(direction) * first + np.sin(direction) * second
    angle = (distance * ARCSEC)[:, None]
    return np.asarray(np.cos(angle) * centre + np.sin(angle) * tangent)


def _codes_at(vectors: np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    ra = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360
    dec = np.degrees(np.arcsin(np.clip(vectors[:, 2], -1, 1)))
    cells, inverse = np.unique(healpix_cells(ra, dec, settings.split_cell_order), return_inverse=True)
    return _codes([_cell_key(cell, settings) for cell in cells], settings)[inverse.reshape(-1)]


def _any_of(groups: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) whether any row of the row's group is in `mask`; groups are named by one of their rows."""
    return np.bincount(groups[mask], minlength=len(groups)).astype(bool)[groups]


def _first_of(groups: np.ndarray, keys: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(N,) row of the group in `mask`, which has one of every group, whose key comes first in the alphabet."""
    rows = np.flatnonzero(mask)
    order = rows[np.argsort(keys[rows].astype(np.str_), kind="stable")]
    first = np.empty(len(groups), np.int64)
    first[groups[order[::-1]]] = order[::-1]
    return first[groups]
