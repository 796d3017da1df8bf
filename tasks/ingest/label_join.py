"""Puts label tables beside the objects of a source, and says which labels found no place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from infra.settings import Settings
from tasks.ingest.labels import label_columns, wanted_columns
from tasks.ingest.source_table import SourceTable, WholeNames
from tasks.ingest.survey import LabelTable, expand
from tasks.ingest.table_batches import table_batches
from tasks.ingest.tables import as_text
from tasks.stamps.part import QUARANTINE_COLUMNS


def label_batches(table: LabelTable, objects: SourceTable | WholeNames, settings: Settings) -> Iterator[pd.DataFrame]:
    """A label table that is a file of its own, in pieces.

    Raises
    ------
    GalaxyError
        If it is missing, or has no column of the object's id.
    """
    assert table.catalogue is not None
    keys = [table.key] if table.key else objects.keys
    place, what = expand(table.catalogue, settings), f"label table {table.name}"
    yield from table_batches(place, keys, [*keys, *table.class_columns], what, optional=wanted_columns(table))


def join_labels(
    table: LabelTable, objects: SourceTable | WholeNames, frame: pd.DataFrame, place: str, known: set[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The label columns of one table by object id, and its quarantine.

    Parameters
    ----------
    objects
        The source's own table, or whole names where it has none.
    frame
        Rows of the label table; all that there are of the objects that are asked for.
    place
        Path or URL of the label table, for messages.
    known
        Ids of all objects that the source named, refused ones as well.

    Returns
    -------
    labels
        Index: object id, each once.
    quarantine
        Labels of images that are not there, of no class in the definition, or second ones of an object.
    """
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
