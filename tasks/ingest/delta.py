"""What a newer catalogue changes: objects that are new or different, and objects that are gone.

The row of an object in a plan says all that its stamp and its part of the catalogue come from. So a row that is the
same in both plans needs no work, whatever it was that made the catalogue a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import StampStoreError
from tasks.stamps.row_groups import Pieces
from tasks.stamps.stamp import FAILED

MOST_CHANGED = 0.5
"""Share of the objects: above it the whole is made anew, since a part of little use would be carried along for ever."""

NOT_COMPARED = ("healpix",)
"""Columns that follow from others."""


@dataclass(frozen=True)
class Delta:
    """The difference of two catalogues.

    Attributes
    ----------
    base
        The dataset of the older one.
    rows, count
        Planned rows that are new or changed, and how many.
    kept, changed
        Objects that are the same in both, and objects that are in both and differ.
    retired
        Ids of objects that are gone or changed: their old rows no longer count.
    """

    base: StampDataset
    rows: Pieces
    count: int
    kept: int
    changed: int
    retired: list[str]


def find_base(folder: Path, root: str, family: str) -> StampDataset | None:
    """The dataset that the newest finished ingest beside `folder` made, of this family; None if there is none.

    It must lie in the same storage as `root`, where the next one is made.
    """
    results = [path for path in folder.parent.glob("ingest-*/result.json") if path.parent != folder]
    for path in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path.parent.name), reverse=True):
        try:
            dataset = StampDataset.open(json.loads(path.read_text())["dataset"])
        except (StampStoreError, KeyError, ValueError):
            continue  # it was deleted since, or is of another version of this code
        if dataset.family == family and _storage_of(dataset.root) == _storage_of(root):
            return dataset
    return None


def compare(base: StampDataset, plan: Pieces) -> Delta | None:
    """The difference between a dataset and a newer plan; None if so much has changed that the whole is made anew.

    An object whose stamp failed counts as changed: it may be there now.
    """
    old = RowKeys.of(base.planned())
    new = RowKeys.of(plan())
    good = base.states != FAILED
    same = new.found_in(RowKeys(old.ids[good], old.contents[good]), alike=True)
    gone = ~(old.found_in(new, alike=True) & good)
    fresh = int((~same).sum())
    if fresh > MOST_CHANGED * len(same) or gone.sum() > MOST_CHANGED * len(gone):
        return None
    changed = int((new.found_in(old) & ~same).sum())
    retired = [
        str(object_id) for frame, here in _by_piece(base.planned(), gone) for object_id in frame["object_id"][here]
    ]

    def rows() -> Iterator[pd.DataFrame]:
        for frame, here in _by_piece(plan(), ~same):
            if here.any():
                yield frame[here]

    return Delta(base, rows, fresh, int(same.sum()), changed, retired)


def _storage_of(place: str) -> str:
    """Protocol and host or bucket of a URL; empty for a path."""
    protocol, mark, rest = place.partition("://")
    return f"{protocol}://{rest.partition('/')[0]}" if mark else ""


@dataclass(frozen=True)
class RowKeys:
    """Two numbers for each of some rows, in order: one of the object's id, one of all that the row says.

    With 64 bits each, ten million objects share a number by chance once in 300,000 catalogues.
    """

    ids: np.ndarray
    contents: np.ndarray

    @classmethod
    def of(cls, frames: Iterable[pd.DataFrame]) -> RowKeys:
        """Those of a table in pieces."""
        found = [(_hashes(frame["object_id"]), row_hashes(frame)) for frame in frames]
        if not found:
            return cls(np.empty(0, np.uint64), np.empty(0, np.uint64))
        ids, contents = zip(*found, strict=True)
        return cls(np.concatenate(ids), np.concatenate(contents))

    def found_in(self, other: RowKeys, alike: bool = False) -> np.ndarray:
        """(N,) whether each object is among others, or is there with the same content."""
        order = np.argsort(other.ids, kind="stable")
        places = np.minimum(np.searchsorted(other.ids[order], self.ids), max(len(order) - 1, 0))
        if not len(order):
            return np.zeros(len(self.ids), bool)
        there = order[places]
        found = other.ids[there] == self.ids
        return found & (other.contents[there] == self.contents) if alike else found


def row_hashes(frame: pd.DataFrame) -> np.ndarray:
    """(N,) uint64 of what each row says: by value, so that neither types nor columns without a value matter."""
    total = np.zeros(len(frame), np.uint64)
    for name in frame.columns:
        if name not in NOT_COMPARED:
            name_hash = pd.util.hash_array(np.array([str(name)], object))[0]
            known = frame[name].notna().to_numpy()
            with np.errstate(over="ignore"):
                mixed = (_hashes(frame[name]) ^ name_hash) * np.uint64(0x9E3779B97F4A7C15)
            total += np.where(known, mixed ^ (mixed >> np.uint64(29)), np.uint64(0))
    return total


def _hashes(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        values = column.astype(object).where(column.notna(), "").to_numpy(object)
    return pd.util.hash_array(values, categorize=False)


def _by_piece(frames: Iterable[pd.DataFrame], mask: np.ndarray) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Each piece of a table with its part of a mask over all rows."""
    first = 0
    for frame in frames:
        yield frame, mask[first : first + len(frame)]
        first += len(frame)
