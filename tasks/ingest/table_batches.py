"""Tables that may be larger than memory, read piece by piece: CSV, Parquet, FITS, VOTable, or a HATS catalogue."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table

from infra.errors import GalaxyError
from infra.remote import exists, file_system, join, persistently, shown
from infra.settings import SKY_VARIABLE
from tasks.ingest.table_file import table_file
from tasks.ingest.tables import GZIP, PANDAS_MISSING, columns_as_text, kind_of_table, need_columns

ROWS = 250_000
"""Rows of a piece."""

HATS_MARKS = ("hats.properties", "properties")
"""Files at the root of a HATS catalogue, by its version."""


def table_batches(
    place: str,
    wanted: Sequence[str] | None,
    text: Sequence[str],
    what: str,
    *,
    optional: Sequence[str] = (),
    rows: int = ROWS,
) -> Iterator[pd.DataFrame]:
    """The wanted columns of a table in pieces, the index counting the table's rows.

    Parameters
    ----------
    place
        Path or URL of a file, or of the folder of a HATS catalogue.
    wanted
        Names of columns; None for all.
    optional
        Names of columns that are read where there are such.
    text
        Those that are read as text, so that an id 007 stays 007.
    what
        How messages call the table, such as `source gz2`.

    Raises
    ------
    GalaxyError
        If it is missing, unreadable, empty, of another kind, or lacks a column.
    """
    first = 0
    try:
        for piece in _pieces(place, wanted, optional, list(text), what, rows):
            frame = columns_as_text(piece, text)
            frame.index = pd.RangeIndex(first, first + len(frame))
            first += len(frame)
            if len(frame):
                yield frame
    except FileNotFoundError:
        raise GalaxyError(
            f"{what}: no catalogue {shown(place)}; correct `catalogue` in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:  # the parsers' own are ValueErrors
        raise GalaxyError(f"{what}: cannot read the catalogue {shown(place)}: {error}") from None
    if not first:
        raise GalaxyError(f"{what}: the catalogue {shown(place)} has no rows")


def read_table(place: str, text: Sequence[str], what: str) -> pd.DataFrame:
    """A whole table: see `table_batches`."""
    return pd.concat(table_batches(str(place), None, text, what), ignore_index=True)


def hats_files(place: str) -> list[str] | None:
    """Paths or URLs of a HATS catalogue's Parquet files, in order; None if there is no such catalogue."""
    if not any(exists(join(place, mark)) for mark in HATS_MARKS):
        return None
    system, root = file_system(place)
    found = persistently(lambda: system.find(join(root, "dataset")), place)
    names = sorted(str(path) for path in found if str(path).endswith(".parquet") and "Npix=" in str(path))
    return [join(place, name.removeprefix(root.rstrip("/") + "/")) for name in names]


def _pieces(
    place: str, wanted: Sequence[str] | None, optional: Sequence[str], text: list[str], what: str, rows: int
) -> Iterator[pd.DataFrame]:
    members = None if kind_of_table(place) else hats_files(place)
    if members is not None:
        for member in members:
            yield from _pieces(member, wanted, optional, text, what, rows)
        return
    kind = kind_of_table(place, what)
    with table_file(place) as path:
        names = _names(kind, path)
        need_columns(pd.DataFrame(columns=names), wanted or [], shown(place), what)
        known = [name for name in optional if name in names]
        chosen = list(dict.fromkeys([*wanted, *known])) if wanted is not None else names
        readers = {"csv": _csv, "parquet": _parquet, "fits": _fits, "votable": _votable}
        yield from readers[kind](path, chosen, text, rows)


def _open(path: str) -> IO[bytes]:
    with open(path, "rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    return gzip.open(path) if compressed else open(path, "rb")  # type: ignore[return-value]


def _names(kind: str, path: str) -> list[str]:
    if kind == "parquet":
        return list(pq.read_schema(path).names)
    if kind == "csv":
        with _open(path) as file:
            return [str(name) for name in pd.read_csv(file, nrows=0, index_col=False).columns]
    if kind == "fits":
        with fits.open(path, memmap=True) as file:
            columns = _table_unit(file).columns
            # those with several numbers a row, such as a flux in each band, are left out
            return [column.name for column in columns if not column.dim and np.dtype(column.dtype).shape == ()]
    table = _read_votable(path)
    return [name for name in table.colnames if table[name].ndim == 1]


def _csv(path: str, names: list[str], text: list[str], rows: int) -> Iterator[pd.DataFrame]:
    # in columns of text only an empty cell is missing: NA and nan may be names
    missing = {name: [""] if name in text else list(PANDAS_MISSING) for name in names}
    with _open(path) as file, warnings.catch_warnings():
        # lines that end in a comma more than the header, as some programs write
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        with pd.read_csv(
            file, usecols=names, dtype=dict.fromkeys(text, object), na_values=missing, keep_default_na=False,
            low_memory=False, index_col=False, chunksize=rows,
        ) as pieces:  # fmt: skip
            for piece in pieces:
                yield piece[names]


def _parquet(path: str, names: list[str], text: list[str], rows: int) -> Iterator[pd.DataFrame]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=names):
            yield batch.to_pandas(ignore_metadata=True)[names]


def _fits(path: str, names: list[str], text: list[str], rows: int) -> Iterator[pd.DataFrame]:
    with fits.open(path, memmap=True) as file:
        data = _table_unit(file).data
        columns = {name: data[name] for name in names}
        for first in range(0, len(data), rows):
            yield pd.DataFrame({name: _plain(column[first : first + rows]) for name, column in columns.items()})


def _votable(path: str, names: list[str], text: list[str], rows: int) -> Iterator[pd.DataFrame]:
    frame = _read_votable(path)[names].to_pandas(index=False)
    for first in range(0, len(frame), rows):
        yield frame.iloc[first : first + rows].copy()


def _table_unit(file: fits.HDUList) -> fits.BinTableHDU:
    for unit in file:
        if isinstance(unit, fits.BinTableHDU | fits.TableHDU):
            return unit
    raise ValueError("it has no table")


def _read_votable(path: str) -> Table:
    with _open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # astropy's on units and versions, which we do not use
        return Table.read(file, format="votable")


def _plain(column: Any) -> Any:
    """Values of a FITS column in the machine's byte order, text without the blanks that fill it up."""
    values = np.asarray(column)
    if values.dtype.kind in "SU":
        return np.char.rstrip(values).astype(np.str_).astype(object)
    return values.astype(values.dtype.newbyteorder("="))
