"""Tables larger than memory, put in another order: by object, or by place on the sky. Small ones never leave memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.ingest.table_batches import ROWS
from tasks.stamps.row_groups import Pieces
from tasks.stamps.sky_order import ORDER, healpix_cells, sort_by_sky

GROUPS = 128
"""Groups of objects that a large table is dealt out to: 80,000 rows each of ten millions."""

CELL_ORDER = 8
"""HEALPix order of the cells that the sky is divided by: 14 arcmin, fewer rows than a piece has in any survey."""

INDEX = "__row"


@dataclass(frozen=True)
class Keyed:
    """Rows of a table with the object of each.

    Attributes
    ----------
    ids
        Object ids, None where there is none; index as of `rows`.
    cells
        Further columns of the same rows, whose names may be the same; None without.
    """

    ids: pd.Series
    rows: pd.DataFrame
    cells: pd.DataFrame | None = None


def by_object(streams: Mapping[str, Iterator[Keyed]], folder: Path) -> Iterator[dict[str, Keyed]]:
    """The rows of several tables in groups: all rows of an object, of every table, are in one group.

    Rows of a table stay in their order, with their index. If no table has more than one piece they are one group, as
    they are; otherwise they go through files in `folder`.
    """
    heads = {name: list(islice(stream, 2)) for name, stream in streams.items()}
    if all(len(head) < 2 for head in heads.values()):
        yield {name: head[0] for name, head in heads.items() if head}
        return
    shutil.rmtree(folder, ignore_errors=True)
    for name, stream in streams.items():
        for number, piece in enumerate(chain(heads[name], stream)):
            _deal(piece, folder, f"{name}-{number:06d}")
        heads[name].clear()
    for group in range(GROUPS):
        place = folder / f"{group:03d}"
        found = {name: _gather(place, name) for name in streams}
        yield {name: keyed for name, keyed in found.items() if keyed is not None}
        shutil.rmtree(place, ignore_errors=True)


def _deal(piece: Keyed, folder: Path, name: str) -> None:
    group = pd.util.hash_array(piece.ids.fillna("").astype(object).to_numpy(), categorize=False) % GROUPS
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(GROUPS + 1))
    for number in range(GROUPS):
        chosen = order[bounds[number] : bounds[number + 1]]
        if len(chosen):
            place = folder / f"{number:03d}"
            place.mkdir(parents=True, exist_ok=True)
            rows = piece.rows.iloc[chosen]
            _write(rows.assign(**{f"{INDEX}_id": piece.ids.iloc[chosen]}), place / f"{name}.rows")
            if piece.cells is not None:
                _write(piece.cells.iloc[chosen], place / f"{name}.cells")


def _gather(place: Path, name: str) -> Keyed | None:
    rows, cells = ([_read(path) for path in sorted(place.glob(f"{name}-*.{kind}"))] for kind in ("rows", "cells"))
    if not rows:
        return None
    whole = pd.concat(rows)
    ids = whole.pop(f"{INDEX}_id").astype(object)
    return Keyed(ids.where(ids.notna(), None), whole, pd.concat(cells) if cells else None)


class SkyPartition:
    """Rows with `object_id`, `ra`, `dec`, added in any order, given back in that of the sky."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        self._held: list[pd.DataFrame] = []
        self._files: list[Path] = []
        self._cells = np.zeros(12 * 4**CELL_ORDER, np.int64)
        self._rows = 0
        self._unplaced = 0

    def __len__(self) -> int:
        """Rows so far."""
        return self._rows

    def add(self, rows: pd.DataFrame) -> None:
        """Take rows."""
        if rows.empty:
            return
        cells = _coarse(rows)
        self._cells += np.bincount(cells[cells >= 0], minlength=len(self._cells))
        self._unplaced += int((cells < 0).sum())
        self._rows += len(rows)
        self._held.append(rows)
        if sum(len(frame) for frame in self._held) > ROWS:
            self._flush()

    def pieces(self) -> Pieces:
        """All rows, sorted as by `sort_by_sky`, in pieces; they can be read several times. Nothing can be added."""
        if not self._files:
            whole = sort_by_sky(_joined(self._held))
            return lambda: [whole]
        self._flush()
        ranges = (np.cumsum(self._cells) - self._cells) // ROWS
        count = int(ranges.max()) + 1
        for number, path in enumerate(self._files):
            rows = _read(path)
            cells = _coarse(rows)
            where = np.where(cells >= 0, ranges[cells], count)
            for place in np.unique(where):
                _write(rows[where == place], self._folder / f"{place:06d}" / f"{number:06d}.rows")
            path.unlink()
        return self._sorted

    def _sorted(self) -> Iterator[pd.DataFrame]:
        for place in sorted(self._folder.iterdir()):
            yield sort_by_sky(_joined([_read(path) for path in sorted(place.iterdir())]))

    def _flush(self) -> None:
        if self._held:
            path = self._folder.with_name("sky-unsorted") / f"{len(self._files):06d}.rows"
            _write(_joined(self._held), path)
            self._files.append(path)
            self._held = []


def _coarse(rows: pd.DataFrame) -> np.ndarray:
    """(N,) cell of CELL_ORDER, -1 without a position."""
    cells = healpix_cells(rows["ra"].to_numpy(np.float64), rows["dec"].to_numpy(np.float64))
    return np.where(cells >= 0, cells >> (2 * (ORDER - CELL_ORDER)), -1)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; a column that only some have is missing in the others, None if it is text."""
    whole = pd.concat(tables, ignore_index=True)
    for name in whole.columns:
        if whole[name].dtype == object:
            whole[name] = whole[name].where(whole[name].notna(), None)
    return whole


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.rename_axis(INDEX).reset_index().to_parquet(path, index=False, compression="lz4")


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).set_index(INDEX).rename_axis(None)
