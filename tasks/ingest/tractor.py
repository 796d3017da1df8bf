"""The Legacy Surveys' own measurements of each object, joined by release, brickid and objid.

The three name an object of a data release: `objid` counts within a brick, and bricks of north and south share ids.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits

from infra.errors import GalaxyError
from tasks.ingest.source_kinds import BricksSource
from tasks.ingest.tile_files import TileFiles, UnreadableError
from tasks.ingest.tiles import TileTable
from tasks.stamps.stamp import Refusal, Stamp

KEY = ("release", "brickid", "objid")
PREFIX = "tractor_"
TILE = f"{PREFIX}tile"


def key_columns(frame: pd.DataFrame, tiles: TileTable | None, best: pd.Series) -> pd.DataFrame:
    """The columns that a later join needs, by row of the source's table, which has the three.

    Parameters
    ----------
    best
        Tile that each object is cut from: its catalogue is used where the table of tiles has no `brickid`.
    """
    keys = pd.DataFrame({f"{PREFIX}{name}": pd.to_numeric(frame[name], errors="coerce") for name in KEY})
    keys = keys.fillna(-1).astype(np.int64)
    named = None if tiles is None else tiles.names_by_id()
    return keys.assign(**{TILE: best if named is None else keys[f"{PREFIX}brickid"].map(named).astype(object)})


def add_columns(
    source: BricksSource, files: TileFiles, rows: pd.DataFrame, answers: Sequence[Stamp | Refusal]
) -> list[Stamp | Refusal]:
    """The answers with `tractor_<name>` beside their other columns; missing where the catalogue has no such object.

    Raises
    ------
    GalaxyError
        If a catalogue cannot be read or lacks a column.
    """
    keys = [f"{PREFIX}{name}" for name in KEY]
    joined: dict[Any, dict[str, Any]] = {}
    for tile, here in rows.groupby(TILE, sort=False):
        measured = _measured(source, files, str(tile))
        if measured is not None:
            found = here[keys].merge(measured, how="inner", on=keys)
            columns = [name for name in found.columns if name not in keys]
            for key, values in zip(
                found[keys].itertuples(index=False, name=None), found[columns].to_dict("records"), strict=True
            ):
                joined[key] = {str(name): value for name, value in values.items()}
    return [
        answer if isinstance(answer, Refusal) else replace(answer, columns={**answer.columns, **joined.get(key, {})})
        for key, answer in zip(rows[keys].itertuples(index=False, name=None), answers, strict=True)
    ]


def _measured(source: BricksSource, files: TileFiles, tile: str) -> pd.DataFrame | None:
    """The wanted columns of one tile's catalogue, with its keys; None if there is no such file."""
    name = source.tractor.format(tile=tile)
    try:
        content = files.read(name)
        if content is None:
            return None
        with fits.open(io.BytesIO(content)) as file:
            table = next(unit.data for unit in file if isinstance(unit, fits.BinTableHDU))
            absent = [column for column in (*KEY, *source.tractor_columns) if column not in table.columns.names]
            if absent:
                raise GalaxyError(
                    f"source {source.name}: {name} has no column {', '.join(absent)}; it has "
                    f"{', '.join(table.columns.names)}. Correct `tractor_columns` in the survey definition"
                )
            columns = {f"{PREFIX}{column}": _plain(table[column]) for column in (*KEY, *source.tractor_columns)}
    except (OSError, StopIteration, TypeError, ValueError, UnreadableError) as error:
        raise GalaxyError(
            f"source {source.name}: cannot read the catalogue {name}: {error}; restore it, or take `tractor` out of "
            "the survey definition"
        ) from error
    frame = pd.DataFrame(columns)
    return frame.drop_duplicates([f"{PREFIX}{name}" for name in KEY])


def _plain(column: np.ndarray) -> Any:
    """A column of a FITS table in the machine's byte order, text without the blanks that fill it up."""
    values = np.asarray(column)
    if values.dtype.kind in "SU":
        return [str(value).strip() for value in column]
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        return [str(value) for value in values]  # ids of other surveys: beside a gap they would lose digits
    return values.astype(values.dtype.newbyteorder("="))
