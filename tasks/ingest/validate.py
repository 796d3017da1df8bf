"""Which rows of a source are refused before anything is read, and why."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.ingest.tables import as_text
from tasks.stamps.part import QUARANTINE_COLUMNS


def refuse_rows(
    rows: pd.DataFrame, table: pd.DataFrame | None, positions: bool, files: set[str] | None
) -> tuple[pd.DataFrame, dict[int, tuple[str, str]]]:
    """Take out the rows that cannot become stamps.

    Parameters
    ----------
    rows
        What a source's `rows()` gave.
    table
        The source's catalogue with the same index: rows that name one object alike but differ there
        are further labels of one object, not a second object.
    positions
        Whether the source gives positions: if so, each must be legal.
    files
        Names of the files that there are; None if the source has none.

    Returns
    -------
    kept
        One row per object.
    refused
        Index to (reason, detail).
    """
    refused: dict[int, tuple[str, str]] = {}

    def refuse(where: pd.Series, reason: str, detail: pd.Series) -> None:
        for index in where.index[where.to_numpy(bool)]:
            refused.setdefault(index, (reason, str(detail[index])))

    refuse(rows["object_id"].isna(), "no object id", pd.Series("", index=rows.index))
    ids = rows["object_id"].astype(object).where(rows["object_id"].notna(), "")
    later = ids.duplicated() & (ids != "")
    if later.any():
        again = later & _same_object(rows, ids)
        literal = as_text(pd.concat([ids.rename("object_id"), rows if table is None else table], axis=1))
        repeated = literal.duplicated()
        refuse(later & (repeated | ~again), "duplicate object id", ids)
        kept_once = later & again & ~repeated
    else:
        kept_once = later
    if positions:
        ra, dec = rows["ra"], rows["dec"]
        text = "ra " + as_text(ra.to_frame())["ra"] + ", dec " + as_text(dec.to_frame())["dec"]
        refuse(~(np.isfinite(ra) & np.isfinite(dec)), "position missing", text)
        refuse(~(ra.between(0, 360) & dec.between(-90, 90)), "position out of range", text)
    if files is not None:
        refuse(rows["file"].isna(), "no image file", ids)
        refuse(~rows["file"].isin(files), "no image file", rows["file"].astype(object))
    gone = rows.index.isin(list(refused))
    kept = rows[~gone & ~kept_once.to_numpy()]
    return kept.assign(ra=kept["ra"] % 360), {i: why for i, why in refused.items() if not kept_once[i]}


def refused_table(source: str, rows: pd.DataFrame, refused: dict[int, tuple[str, str]]) -> pd.DataFrame:
    """Refused rows as a piece of the quarantine."""
    return pd.DataFrame(
        [
            {
                "kind": "object",
                "source": source,
                "object_id": rows["object_id"][index] or f"{source}/row {index}",
                "table": None,
                "state": "refused",
                "reason": reason,
                "detail": detail,
            }
            for index, (reason, detail) in sorted(refused.items())
        ],
        columns=list(QUARANTINE_COLUMNS),
    )


def _same_object(rows: pd.DataFrame, ids: pd.Series) -> pd.Series:
    """Whether a row agrees with the first of its id in all that makes an object: position, file, field."""
    names = [name for name in ("ra", "dec", "file", "field") if name in rows]
    text = as_text(rows[names])
    first = text.groupby(ids).transform("first")
    return (text == first).all(axis=1)
