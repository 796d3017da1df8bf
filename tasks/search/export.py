"""A search's ranked list as a file: CSV, Parquet or VOTable."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from infra.errors import GalaxyError

FORMATS = ("csv", "parquet", "vot")
UNITS = {"ra": "deg", "dec": "deg"}


def export(ranked: pd.DataFrame, form: str) -> bytes:
    """The content of the file.

    Parameters
    ----------
    ranked
        One row per object, the likeliest first. Missing text is empty in CSV and VOTable, null in Parquet.
    form
        One of `FORMATS`.

    Raises
    ------
    GalaxyError
        If there is no such format.
    """
    if form == "csv":
        return _without_formulas(ranked).to_csv(index=False, float_format="%.8g").encode()
    if form == "parquet":
        buffer = io.BytesIO()
        ranked.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if form == "vot":
        return _votable(ranked)
    raise GalaxyError(f"no export format {form!r}; there are {', '.join(FORMATS)}")


def _without_formulas(ranked: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would compute, with an apostrophe before it: ids come from whoever made the catalogue."""
    safe = ranked.copy()
    for name in safe.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in safe.dtypes]]:
        text = safe[name]
        risky = text.map(lambda value: isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"))
        safe[name] = text.where(~risky, "'" + text.astype(str))
    return safe


def _votable(ranked: pd.DataFrame) -> bytes:
    from astropy.io.votable import from_table, writeto
    from astropy.table import Column, Table

    table = Table()
    for name in ranked:
        values = ranked[name]
        if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
            array = values.to_numpy()
        else:
            text = ["" if pd.isna(value) else str(value) for value in values]
            array = np.array(text, dtype=f"U{max(1, *(len(value) for value in text), 1)}")
        table[str(name)] = Column(array, unit=UNITS.get(str(name)))
    buffer = io.BytesIO()
    writeto(from_table(table), buffer)
    return buffer.getvalue()
