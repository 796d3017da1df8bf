"""The catalogue of a dataset, completed after the last stamp is read from what was planned before the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tasks.ingest.label_join import refused_labels
from tasks.ingest.labels import label_columns, wanted_columns
from tasks.ingest.source_kinds import Source
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.stamps.part import QUARANTINE_COLUMNS

IDENTITY = ("object_id", "ra", "dec", "healpix", "survey", "source", "bands", "pixel_scale", "field", "state", "file")
OBSERVED = ("psf_size_", "depth_", "ebv", "coverage", "mask_fraction")
SURVEYS_OWN = ("tractor_",)
NOT_KEPT = ("version",)
"""Columns that tell a changed image, by which a newer catalogue is compared; a file's time is no content."""

LABELS = ("label.", "votes.", "voters.", "value.", "grade.", "mask.")


def rows_of_source(rows: pd.DataFrame, source: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one source as its `rows()` gave them: its own columns, with their types."""
    mine = rows[rows["source"] == source]
    return mine[list(columns)].astype({name: kind for name, kind in columns.items() if kind not in ("object", "str")})


def complete_catalogue(merged: pd.DataFrame, definition: SurveyDefinition) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The final columns, from the plan with what the stamps told.

    Labels of a simulated source are its own truth, which is known only now. All its other columns
    are called `truth_<name>`. The columns come in the order: identity, observation, labels, truth.
    """
    catalogue = merged.drop(columns=[name for name in NOT_KEPT if name in merged])
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
    return table.catalogue is None and (source.kind == "simulated" or (joined and source.kind == "bricks"))


def _final_name(name: str) -> str:
    known = name in IDENTITY or name.startswith((*OBSERVED, *LABELS, *SURVEYS_OWN, "truth_"))
    return name if known else f"truth_{name}"


def _without_prefix(column: Any) -> dict[str, Any]:
    return {"column": column.removeprefix("truth_")} if isinstance(column, str) else {}


def _starting(table: pd.DataFrame, prefixes: tuple[str, ...]) -> list[str]:
    return sorted(name for name in table.columns if name.startswith(prefixes) and name not in IDENTITY)
