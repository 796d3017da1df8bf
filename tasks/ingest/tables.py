"""What a user's tables have in common: their kinds, their columns, and the ids of objects."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

import pandas as pd

from infra.errors import GalaxyError

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


def kind_of_table(place: str, what: str = "") -> str:
    """Kind of a table by the ending of its name; "" for an unknown one, unless `what` needs it.

    Raises
    ------
    GalaxyError
        If `what` names who needs it, and it is of no known kind.
    """
    for kind, endings in TABLE_SUFFIXES.items():
        if place.lower().endswith(endings):
            return kind
    if what:
        endings = tuple(ending for group in TABLE_SUFFIXES.values() for ending in group)
        raise GalaxyError(
            f"{what}: {place} ends in none of {', '.join(endings)}, and is no HATS catalogue; convert it, and correct "
            "`catalogue`"
        )
    return ""


def columns_as_text(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The table with some columns as text, a missing cell being None; whole numbers have no decimal point."""
    for name in names:
        if name in table.columns:
            column = table[name]
            if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
                column = column.astype("Int64")  # whole numbers, and gaps, which made them floats
            known = column.astype("str").str.strip()
            table[name] = known.astype(object).where(known.notna(), None)
    return table


def plain(content: bytes) -> bytes:
    """The content as it was before gzip, if that compressed it."""
    return gzip.decompress(content) if content.startswith(GZIP) else content


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


IMAGE_SUFFIX = r"\.(fits\.gz|fits\.fz|fits|fit|jpg|jpeg|png)$"


def object_ids(source: str, column: pd.Series) -> pd.Series:
    """Ids that are unique over all sources: `<source>/<id>`, without the suffix of an image file; None if empty."""
    stem = column.astype("str").str.strip().str.replace(IMAGE_SUFFIX, "", regex=True, case=False)
    return (f"{source}/" + stem).astype(object).where(stem.notna() & (stem != ""), None)
