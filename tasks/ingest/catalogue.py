"""The catalogue of a dataset: planned before the first stamp is read, completed after the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest.label_join import join_labels, refused_labels
from tasks.ingest.labels import label_columns, wanted_columns
from tasks.ingest.source_kinds import Source
from tasks.ingest.sources import open_source
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.ingest.validate import gaps_table, refuse_rows, refused_table
from tasks.stamps.part import QUARANTINE_COLUMNS
from tasks.stamps.sky_order import sort_by_sky

IDENTITY = ("object_id", "ra", "dec", "healpix", "survey", "source", "bands", "pixel_scale", "field", "state", "file")
OBSERVED = ("psf_size_", "depth_", "ebv", "coverage", "mask_fraction")
SURVEYS_OWN = ("tractor_",)
LABELS = ("label.", "votes.", "value.", "grade.", "mask.")


@dataclass(frozen=True)
class Plan:
    """What is to be loaded.

    Attributes
    ----------
    rows
        Objects in the order of the store, with what is known before their stamps are.
    refused
        Quarantine of objects and labels.
    counts
        `input` and `refused`, objects.
    source_columns
        Source to the columns that its own `rows()` had and their types.
    """

    rows: pd.DataFrame
    refused: pd.DataFrame
    counts: dict[str, int]
    source_columns: dict[str, dict[str, str]]


def make_plan(definition: SurveyDefinition, settings: Settings) -> Plan:
    """Read all tables, refuse what cannot become a stamp, join the labels, sort by sky.

    Raises
    ------
    GalaxyError
        If a folder, table or column is missing, or no object is left.
    """
    kept, refused = [], []
    source_columns = {}
    for source in definition.sources:
        reader = open_source(source, definition, settings)
        rows = reader.rows()
        source_columns[source.name] = {str(name): str(dtype) for name, dtype in rows.dtypes.items()}
        objects = reader.table
        if objects is None:
            good, bad = refuse_rows(rows, None, True, reader.files())
        else:
            good, bad = refuse_rows(rows, objects.frame, objects.has_positions, reader.files())
            refused.append(gaps_table(source.name, objects.gaps))
        refused.append(refused_table(source.name, rows, bad))
        good = good.assign(
            survey=definition.name, source=source.name, bands=source.survey_bands, pixel_scale=_scale(good, source)
        )
        for table in definition.labels:
            if table.source != source.name:
                continue
            if comes_with_stamps(table, source):
                if source.kind == "simulated" and table.kind != "truth_mask":
                    label_columns(table, rows, "the simulation")  # a wrong column is better known now than at the end
            elif objects is not None:
                labels, problems = join_labels(table, objects, set(rows["object_id"].dropna()), settings)
                good = good.join(labels, on="object_id")
                refused.append(problems)
        kept.append(good)
    rows = _concatenate(kept)
    if rows.empty:
        raise GalaxyError(f"survey {definition.name}: every row was refused; {_reasons(pd.concat(refused))}")
    if rows["object_id"].duplicated().any():
        twice = rows["object_id"][rows["object_id"].duplicated()].iloc[0]
        raise GalaxyError(f"object {twice} comes from two sources; give the sources of {definition.name} other names")
    quarantine = pd.concat([table.astype(object) for table in refused], ignore_index=True)
    count = int((quarantine["kind"] == "object").sum())
    return Plan(sort_by_sky(rows), quarantine, {"input": len(rows) + count, "refused": count}, source_columns)


def rows_of_source(rows: pd.DataFrame, source: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one source as its `rows()` gave them: its own columns, with their types."""
    mine = rows[rows["source"] == source]
    return mine[list(columns)].astype({name: kind for name, kind in columns.items() if kind not in ("object", "str")})


def complete_catalogue(merged: pd.DataFrame, definition: SurveyDefinition) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The final columns, from the plan with what the stamps told.

    Labels of a simulated source are its own truth, which is known only now. All its other columns
    are called `truth_<name>`. The columns come in the order: identity, observation, labels, truth.
    """
    catalogue = merged.copy()
    masks: set[Any] = set()
    refused = [pd.DataFrame(columns=list(QUARANTINE_COLUMNS))]
    for table in definition.labels:
        source = next(source for source in definition.sources if source.name == table.source)
        if comes_with_stamps(table, source):
            mine = (catalogue["source"] == source.name).to_numpy()
            truth = merged[mine].rename(columns=lambda name: str(name).removeprefix("truth_"))
            origin = "the simulation" if source.kind == "simulated" else f"source {source.name}"
            labels, unknown = label_columns(table.model_copy(update=_without_prefix(table.column)), truth, origin)
            refused.append(refused_labels(table, merged["object_id"][unknown.index], unknown))
            for name in labels:
                catalogue[name] = labels[name].reindex(catalogue.index)
            masks.update({table.column, f"truth_{table.column}"} if table.kind == "truth_mask" else ())
    catalogue = catalogue.drop(columns=[name for name in masks if name in catalogue])
    for name in ("pixel_scale", "ra", "dec"):
        catalogue[name] = catalogue[name].astype(np.float64)
    catalogue = catalogue.rename(columns={name: _final_name(str(name)) for name in catalogue.columns})
    for name in ("field", "file"):
        if name not in catalogue:
            catalogue[name] = None
    order = [
        *IDENTITY,
        *(name for group in (OBSERVED, LABELS, SURVEYS_OWN, ("truth_",)) for name in _starting(catalogue, group)),
    ]
    return catalogue[order], pd.concat([piece.astype(object) for piece in refused], ignore_index=True)


def comes_with_stamps(table: LabelTable, source: Source) -> bool:
    """Whether a table's labels are known only after the stamps: a simulation's truth, or what is joined by tile."""
    joined = any(name.startswith(SURVEYS_OWN) for name in wanted_columns(table))
    return source.kind == "simulated" or (joined and table.catalogue is None and source.kind == "bricks")


def _scale(rows: pd.DataFrame, source: Any) -> Any:
    """Pixel scale as far as it is known before reading: a simulated source's; an image's comes with its stamp."""
    if "pixel_scale" in rows:
        return rows["pixel_scale"]
    return source.pixel_scale if source.kind == "simulated" else np.nan


def _concatenate(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; a column that only some have is missing in the others, None if it is text."""
    whole = pd.concat(tables, ignore_index=True)
    for name in whole.columns:
        if whole[name].dtype == object:
            whole[name] = whole[name].where(whole[name].notna(), None)
    return whole


def _final_name(name: str) -> str:
    known = name in IDENTITY or name.startswith((*OBSERVED, *LABELS, *SURVEYS_OWN, "truth_"))
    return name if known else f"truth_{name}"


def _without_prefix(column: Any) -> dict[str, Any]:
    return {"column": column.removeprefix("truth_")} if isinstance(column, str) else {}


def _starting(table: pd.DataFrame, prefixes: tuple[str, ...]) -> list[str]:
    return sorted(name for name in table.columns if name.startswith(prefixes) and name not in IDENTITY)


def _reasons(quarantine: pd.DataFrame) -> str:
    counts = quarantine.loc[quarantine["kind"] == "object", "reason"].value_counts()
    return ", ".join(f"{reason}: {number}" for reason, number in counts.items()) or "there were none"
