"""Which rows of a source are refused before anything is read, and why."""

from __future__ import annotations

from collections.abc import Sequence

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
        shared = ids.duplicated(keep=False) & (ids != "")  # all other rows need no comparing: there may be millions
        again = later & _same_object(rows[shared], ids[shared]).reindex(ids.index, fill_value=False)
        cells = (rows if table is None else table)[shared]
        literal = as_text(pd.concat([ids[shared].rename("object_id"), cells], axis=1))
        repeated = literal.duplicated().reindex(ids.index, fill_value=False)
        refuse(later & (repeated | ~again), "duplicate object id", ids)
        kept_once = later & again & ~repeated
    else:
        kept_once = later
    if positions:
        ra, dec = rows["ra"], rows["dec"]
        legal = ra.between(0, 360) & dec.between(-90, 90)
        bad_ra, bad_dec = (as_text(rows.loc[~legal, [name]])[name] for name in ("ra", "dec"))
        text = "ra " + bad_ra + ", dec " + bad_dec
        refuse(~(np.isfinite(ra) & np.isfinite(dec)), "position missing", text)
        refuse(~legal, "position out of range", text)
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


def gaps_table(source: str, gaps: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """What a source's table itself shows to be missing, as a piece of the quarantine; no rows, so not among objects."""
    return pd.DataFrame(
        [
            {
                "kind": "gap",
                "source": source,
                "object_id": None,
                "table": None,
                "state": "refused",
                "reason": reason,
                "detail": detail,
            }
            for reason, detail in gaps
        ],
        columns=list(QUARANTINE_COLUMNS),
    )


def _same_object(rows: pd.DataFrame, ids: pd.Series) -> pd.Series:
    """Whether a row agrees with the first of its id in all that makes an object: position, file, field."""
    names = [name for name in ("ra", "dec", "file", "field") if name in rows]
    text = as_text(rows[names])
    first = text.groupby(ids).transform("first")
    return (text == first).all(axis=1)
