"""Reads a user's tables: CSV or Parquet, with errors that say what to correct."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa

from infra.errors import GalaxyError
from infra.settings import SKY_VARIABLE

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit", ".fits.gz", ".fits.fz")

PANDAS_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells of a CSV file that pandas takes for missing; in columns of text only an empty one is."""


def read_table(path: Path, text: Iterable[str], what: str) -> pd.DataFrame:
    """A table whose columns `text` are read as text, so that an id 007 stays 007 and NA stays NA.

    Its index counts rows; an index that the file has becomes a column where it has a name.

    Parameters
    ----------
    what
        How messages call the table, such as `source gz2`.

    Raises
    ------
    GalaxyError
        If it is missing, unreadable, empty, or of another kind.
    """
    text = list(text)
    try:
        if path.suffix == ".parquet":
            table = _count_rows(pd.read_parquet(path))
            for name in text:
                if name in table.columns:
                    table[name] = table[name].astype(object).map(lambda value: None if pd.isna(value) else str(value))
        elif path.suffix == ".csv":
            # only an empty cell is missing: NA and nan may be names
            columns = pd.read_csv(path, nrows=0, index_col=False).columns
            missing = {name: [""] if name in text else list(PANDAS_MISSING) for name in columns}
            types = dict.fromkeys(text, object)
            with warnings.catch_warnings():  # lines that end in a comma more than the header, as some programs write
                warnings.simplefilter("ignore", pd.errors.ParserWarning)
                table = pd.read_csv(
                    path, dtype=types, na_values=missing, keep_default_na=False, low_memory=False, index_col=False
                )
            table = _count_rows(table)
        else:
            raise GalaxyError(f"{what}: {path} is neither .csv nor .parquet; convert it, and correct `catalogue`")
    except FileNotFoundError:
        raise GalaxyError(
            f"{what}: no catalogue {path}; correct `catalogue` in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:  # the parsers' own errors are ValueErrors
        raise GalaxyError(f"{what}: cannot read the catalogue {path}: {error}") from None
    if table.empty:
        raise GalaxyError(f"{what}: the catalogue {path} has no rows")
    return table


def _count_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an index 0, 1, ...: the index of a file may repeat, and rows are told apart by it."""
    named = [level for level, name in enumerate(table.index.names) if name is not None and name not in table.columns]
    return (table.reset_index(level=named) if named else table).reset_index(drop=True)


def need_columns(table: pd.DataFrame, names: Iterable[str | None], path: Path, what: str) -> None:
    """Refuse a table without one of the columns; None stands for a column that is not used.

    Raises
    ------
    GalaxyError
        Names the column, the table and the columns that there are.
    """
    for name in names:
        if name is not None and name not in table.columns:
            raise GalaxyError(
                f"{what}: no column {name!r} in {path}; it has {', '.join(map(str, table.columns))}. "
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
