"""Puts label tables beside the objects of a source, and says which labels found no place."""

from __future__ import annotations

from typing import Any

import pandas as pd

from infra.settings import Settings
from tasks.ingest.labels import label_columns
from tasks.ingest.source_table import SourceTable
from tasks.ingest.survey import LabelTable, expand
from tasks.ingest.tables import as_text, need_columns, read_table
from tasks.stamps.part import QUARANTINE_COLUMNS


def join_labels(
    table: LabelTable, objects: SourceTable, known: set[str], settings: Settings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The label columns of one table by object id, and its quarantine.

    Parameters
    ----------
    objects
        The source's own table.
    known
        Ids of all objects that the source named, refused ones as well.

    Returns
    -------
    labels
        Index: object id, each once.
    quarantine
        Labels of images that are not there, of no class in the definition, or second ones of an object.
    """
    what = f"label table {table.name}"
    keys = [table.key] if table.key else objects.columns.id_columns
    if table.catalogue is None:
        frame, place = objects.frame, objects.place
    else:
        place = expand(table.catalogue, settings)
        frame = read_table(place, [*keys, *table.class_columns], what)
    need_columns(frame, keys, place, what)
    ids = objects.ids(frame, table.key)
    columns, unknown = label_columns(table, frame, place)
    problems: list[tuple[Any, str, str]] = []
    strange = ~ids.isin(known)
    problems += [(ids[index], "label for an image that is not there", f"row {index}") for index in ids.index[strange]]

    usable = columns[~strange & columns.notna().any(axis=1)].copy()
    usable.index = pd.Index(ids[usable.index], dtype=object)
    text = as_text(usable)
    same = (text == text.groupby(level=0).transform("first")).all(axis=1)
    second = text[usable.index.duplicated() & ~same]
    problems += [(name, "second label for one object", ", ".join(values)) for name, *values in second.itertuples()]

    labels = usable[~usable.index.duplicated()]
    refused = [refused_labels(table, ids[unknown.index], unknown), _quarantine(table, problems)]
    return labels, pd.concat([piece.astype(object) for piece in refused], ignore_index=True)


def refused_labels(table: LabelTable, object_ids: pd.Series, unknown: pd.Series) -> pd.DataFrame:
    """Quarantine of labels whose text is no class of the definition."""
    reason = "label is no class of the definition"
    return _quarantine(table, [(name, reason, text) for name, text in zip(object_ids, unknown, strict=True)])


def _quarantine(table: LabelTable, problems: list[tuple[Any, str, str]]) -> pd.DataFrame:
    rows = [
        {
            "kind": "label",
            "source": table.source,
            "object_id": name,
            "table": table.name,
            "state": "refused",
            "reason": reason,
            "detail": detail,
        }
        for name, reason, detail in problems
    ]
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS))
