"""Reads a user's tables: CSV, Parquet, FITS or VOTable, by path or URL, with errors that say what to correct."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa

from infra.errors import GalaxyError
from infra.remote import file_system, is_local, persistently
from infra.settings import SKY_VARIABLE

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit", ".fits.gz", ".fits.fz")

TABLE_SUFFIXES = {
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet", ".pq"),
    "fits": (".fits", ".fit", ".fits.gz"),
    "votable": (".vot", ".votable", ".xml", ".vot.gz"),
}
"""Kind of table to the endings of its files."""

GZIP = b"\x1f\x8b"

PANDAS_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells of a CSV file that pandas takes for missing; in columns of text only an empty one is."""


def read_table(place: str | Path, text: Iterable[str], what: str) -> pd.DataFrame:
    """A table whose columns `text` are read as text, so that an id 007 stays 007 and NA stays NA.

    Its index counts rows; an index that the file has becomes a column where it has a name.

    Parameters
    ----------
    place
        Path or URL of a CSV, Parquet, FITS or VOTable file; CSV, FITS and VOTable also with `.gz`.
    what
        How messages call the table, such as `source gz2`.

    Raises
    ------
    GalaxyError
        If it is missing, unreadable, empty, or of another kind.
    """
    text, place = list(text), str(place)
    kinds = [kind for kind, endings in TABLE_SUFFIXES.items() if place.lower().endswith(endings)]
    if not kinds:
        endings = ", ".join(ending for group in TABLE_SUFFIXES.values() for ending in group)
        raise GalaxyError(f"{what}: {place} ends in none of {endings}; convert it, and correct `catalogue`")
    system, path = file_system(place)

    def read() -> pd.DataFrame:
        with system.open(path, "rb") if is_local(system) else io.BytesIO(system.cat_file(path)) as file:
            return READERS[kinds[0]](file, place, text)

    try:
        table = read() if is_local(system) else persistently(read, place)
    except FileNotFoundError:
        raise GalaxyError(
            f"{what}: no catalogue {place}; correct `catalogue` in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:  # the parsers' own errors are ValueErrors
        raise GalaxyError(f"{what}: cannot read the catalogue {place}: {error}") from None
    if table.empty:
        raise GalaxyError(f"{what}: the catalogue {place} has no rows")
    return table


def _read_csv(file: IO[bytes], place: str, text: list[str]) -> pd.DataFrame:
    content = io.BytesIO(plain(file.read()))
    # only an empty cell is missing: NA and nan may be names
    columns = pd.read_csv(content, nrows=0, index_col=False).columns
    content.seek(0)
    missing = {name: [""] if name in text else list(PANDAS_MISSING) for name in columns}
    types = dict.fromkeys(text, object)
    with warnings.catch_warnings():  # lines that end in a comma more than the header, as some programs write
        warnings.simplefilter("ignore", pd.errors.ParserWarning)
        table = pd.read_csv(
            content, dtype=types, na_values=missing, keep_default_na=False, low_memory=False, index_col=False
        )
    return _count_rows(table)


def _read_parquet(file: IO[bytes], place: str, text: list[str]) -> pd.DataFrame:
    return _as_text(_count_rows(pd.read_parquet(file)), text)


def _read_astropy(file: IO[bytes], place: str, text: list[str]) -> pd.DataFrame:
    """A FITS or VOTable table; columns with several numbers a row, such as a flux in each band, are left out."""
    from astropy.table import Table

    votable = place.lower().endswith(TABLE_SUFFIXES["votable"])
    content = io.BytesIO(plain(file.read()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # astropy's on units and versions, which we do not use
        table = Table.read(content, format="votable" if votable else "fits")
    flat = [name for name in table.colnames if table[name].ndim == 1]
    frame = table[flat].to_pandas(index=False)
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = frame[name].map(lambda value: value.decode() if isinstance(value, bytes) else value)
    return _as_text(frame, text)


def plain(content: bytes) -> bytes:
    """The content as it was before gzip, if that compressed it."""
    return gzip.decompress(content) if content.startswith(GZIP) else content


READERS = {"csv": _read_csv, "parquet": _read_parquet, "fits": _read_astropy, "votable": _read_astropy}


def _as_text(table: pd.DataFrame, text: list[str]) -> pd.DataFrame:
    for name in text:
        if name in table.columns:
            if pd.api.types.is_float_dtype(table[name]) and (table[name].dropna() % 1 == 0).all():
                table[name] = table[name].astype("Int64")  # whole numbers, and gaps, which made them floats
            table[name] = table[name].astype(object).map(lambda value: None if pd.isna(value) else str(value).strip())
    return table


def _count_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an index 0, 1, ...: the index of a file may repeat, and rows are told apart by it."""
    named = [level for level, name in enumerate(table.index.names) if name is not None and name not in table.columns]
    return (table.reset_index(level=named) if named else table).reset_index(drop=True)


def need_columns(table: pd.DataFrame, names: Iterable[str | None], place: str, what: str) -> None:
    """Refuse a table without one of the columns; None stands for a column that is not used.

    Raises
    ------
    GalaxyError
        Names the column, the table and the columns that there are.
    """
    for name in names:
        if name is not None and name not in table.columns:
            raise GalaxyError(
                f"{what}: no column {name!r} in {place}; it has {', '.join(map(str, table.columns))}. "
                "Correct the column's name in the survey definition"
            )


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Every cell as text, a missing one as an empty string, so that cells can be compared."""
    return frame.astype(object).where(frame.notna(), "").astype(str)


def object_ids(source: str, column: pd.Series) -> pd.Series:
    """Ids that are unique over all sources: `<source>/<id>`, without the suffix of an image file; None if empty."""

    def name(value: object) -> str | None:
        stem = "" if pd.isna(value) else str(value).strip()  # type: ignore[call-overload]
        for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True):
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
                break
        return f"{source}/{stem}" if stem else None

    return column.astype(object).map(name).astype(object)
