"""Which objects are to be loaded, in the order of the store; made from tables of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest.catalogue import comes_with_stamps
from tasks.ingest.label_join import join_labels, label_batches
from tasks.ingest.labels import label_columns
from tasks.ingest.partition import Keyed, SkyPartition, by_object
from tasks.ingest.source_kinds import Source
from tasks.ingest.source_table import Batch, SourceTable, WholeNames
from tasks.ingest.sources import StampSource, Streaming, open_source
from tasks.ingest.survey import LabelTable, SurveyDefinition, expand
from tasks.ingest.validate import gaps_table, refuse_rows, refused_table
from tasks.stamps.row_groups import Pieces

ROWS_OF_SOURCE = "Rows"
"""Stream of a source's own rows; label tables' streams have their names, which are in small letters."""


@dataclass(frozen=True)
class Plan:
    """What is to be loaded.

    Attributes
    ----------
    rows
        Objects in the order of the store, with what is known before their stamps are.
    count
        How many these are.
    refused
        Quarantine of objects and labels.
    counts
        `input` and `refused`, objects.
    source_columns
        Source to the columns that its own rows had and their types.
    """

    rows: Pieces
    count: int
    refused: pd.DataFrame
    counts: dict[str, int]
    source_columns: dict[str, dict[str, str]]


def make_plan(definition: SurveyDefinition, settings: Settings, folder: Path) -> Plan:
    """Read all tables, refuse what cannot become a stamp, join the labels, sort by sky.

    Tables go through `folder` in pieces: first so that all rows of an object are together, which shows second rows
    and lets labels be joined; then so that neighbours on the sky are.

    Raises
    ------
    GalaxyError
        If a folder, table or column is missing, or no object is left.
    """
    sky = SkyPartition(folder / "sky")
    refused: list[pd.DataFrame] = []
    source_columns: dict[str, dict[str, str]] = {}
    for source in definition.sources:
        reader = open_source(source, definition, settings)
        tables = [table for table in definition.labels if table.source == source.name]
        columns: dict[str, str] = {}
        streams: dict[str, Iterator[Keyed]] = {ROWS_OF_SOURCE: _batches(reader, columns)}
        if reader.table is not None:
            refused.append(gaps_table(source.name, reader.table.gaps))
        for table in tables:
            if table.catalogue is not None:
                streams[table.name] = _label_rows(table, reader.table or WholeNames(), settings)
        for group in by_object(streams, folder / f"source-{source.name}"):
            kept, bad = _plan_group(group, source, reader, tables, definition, settings)
            sky.add(kept)
            refused += bad
        source_columns[source.name] = columns
    quarantine = pd.concat([table.astype(object) for table in refused], ignore_index=True)
    objects = quarantine["kind"] == "object"
    if not len(sky):
        reasons = quarantine.loc[objects, "reason"].value_counts()
        told = ", ".join(f"{reason}: {number}" for reason, number in reasons.items()) or "there were none"
        raise GalaxyError(f"survey {definition.name}: every row was refused; {told}")
    counts = {"input": len(sky) + int(objects.sum()), "refused": int(objects.sum())}
    return Plan(sky.pieces(), len(sky), quarantine, counts, source_columns)


def _batches(reader: StampSource, columns: dict[str, str]) -> Iterator[Keyed]:
    """A source's rows, each with the cells of its own table beside; the rows' columns and types go into `columns`."""
    whole = reader.batches() if isinstance(reader, Streaming) else _as_one(reader)
    for batch in whole:
        for name, kind in batch.rows.dtypes.items():
            columns[str(name)] = _common_type(columns.get(str(name), str(kind)), str(kind))
        yield Keyed(batch.rows["object_id"], batch.rows, batch.cells)


def _as_one(reader: StampSource) -> Iterator[Batch]:
    rows = reader.rows()
    yield Batch(rows, None if reader.table is None else reader.table.frame)


def _common_type(one: str, other: str) -> str:
    if one == other:
        return one
    numbers = ("int", "float", "bool", "uint")
    return "float64" if one.startswith(numbers) and other.startswith(numbers) else "object"


def _label_rows(table: LabelTable, objects: SourceTable | WholeNames, settings: Settings) -> Iterator[Keyed]:
    for frame in label_batches(table, objects, settings):
        yield Keyed(objects.ids(frame, table.key), frame)


def _plan_group(
    group: dict[str, Keyed],
    source: Source,
    reader: StampSource,
    tables: list[LabelTable],
    definition: SurveyDefinition,
    settings: Settings,
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The rows of some objects that are kept, with their labels, and the quarantine of the others."""
    objects, refused, good = reader.table, [], pd.DataFrame()
    rows, cells, known = None, None, set()
    if ROWS_OF_SOURCE in group:
        rows, cells = group[ROWS_OF_SOURCE].rows, group[ROWS_OF_SOURCE].cells
        known = set(rows["object_id"].dropna())
        good, bad = refuse_rows(rows, cells, objects is None or objects.has_positions, reader.files())
        refused.append(refused_table(source.name, rows, bad))
        scale = _scale(good, source)
        good = good.assign(survey=definition.name, source=source.name, bands=source.survey_bands, pixel_scale=scale)
    for table in tables:
        if comes_with_stamps(table, source):
            if source.kind == "simulated" and table.kind != "truth_mask" and rows is not None:
                label_columns(table, rows, "the simulation")  # a wrong column is better known now than at the end
            continue
        if table.catalogue is not None:
            frame, place = _rows_of(group, table.name), expand(table.catalogue, settings)
        else:
            assert objects is not None
            frame, place = cells, objects.place
        if frame is not None:
            labels, problems = join_labels(table, objects or WholeNames(), frame, place, known)
            refused.append(problems)
            good = good.join(labels, on="object_id") if len(good) else good
    return good, refused


def _rows_of(group: dict[str, Keyed], name: str) -> pd.DataFrame | None:
    return group[name].rows if name in group else None


def _scale(rows: pd.DataFrame, source: Any) -> Any:
    """Pixel scale as far as it is known before reading: a simulated source's; an image's comes with its stamp."""
    if "pixel_scale" in rows:
        return rows["pixel_scale"]
    return source.pixel_scale if source.kind == "simulated" else np.nan
