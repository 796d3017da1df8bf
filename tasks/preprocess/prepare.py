"""The preprocess stage: measures, flags, groups, splits, statistics and pictures; no pixel is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from infra.cluster import open_client
from tasks.preprocess.duplicates import duplicate_groups
from tasks.preprocess.flags import FLAGS, quality_flags, usable_stamps
from tasks.preprocess.measure import NAMES
from tasks.preprocess.prepared import PreparedDataset, write_prepared
from tasks.preprocess.shards import Report, count_pixels, measure_dataset
from tasks.preprocess.sheets import draw_figures, stamp_pictures
from tasks.preprocess.splits import GUARD, SPLITS, assign_splits, check_splits, stamp_widths
from tasks.preprocess.statistics import train_statistics
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset

REALISM_STAMPS = 400
"""Simulated stamps that are laid beside real ones."""


def preprocess(context: StageContext) -> dict[str, Any]:
    """Measure every stamp, flag, group and split them, and describe the train split.

    Killed at any moment and started again, it takes finished shards as they are and ends with the same
    digest, with any number of workers.

    Returns
    -------
    dict
        `prepared` (folder), `digest`, `splits` (usable stamps by split), `flags` (stamps by flag), `figures` (PNG
        files), `notes` (sentences on splits and realism), `metrics` (numbers by name).

    Raises
    ------
    GalaxyError
        If a shard of the stamps is lost or damaged, or a split has no usable stamp.
    """
    dataset = StampDataset.open(context.upstream["ingest"]["dataset"])
    with open_client(context.profile.cluster) as workers:
        measures = measure_dataset(dataset, context.folder, workers, _report(context, 0))
        own = describe_rows(context, dataset, measures)
        table = pd.concat([dataset.catalog, own.drop(columns="object_id")], axis=1)
        notes = check_splits(table, context.profile.preprocess)
        train = table[table["usable"] & (table["split"] == "train")]
        counts = count_pixels(dataset, train.index.to_numpy(), context.folder, workers, _report(context, 1))
    statistics = train_statistics(counts, train, dataset.bands)
    prepared = write_prepared(context.folder / "prepared", dataset, own, statistics)
    figures = draw_figures(prepared, context.survey, context.folder / "figures")
    realism = _realism(context, prepared)
    return {
        "prepared": str(prepared.folder),
        "digest": prepared.digest,
        "splits": {split: int((own["usable"] & (own["split"] == split)).sum()) for split in (*SPLITS, GUARD)},
        "flags": {name: int(own[f"flag_{name}"].sum()) for name in FLAGS},
        "figures": [str(path) for path in [*figures, *realism.get("figures", [])]],
        "notes": [*notes, *([realism["note"]] if "note" in realism else [])],
        "metrics": {
            **_metrics(table),
            **{f"realism.{name}": value for name, value in realism.get("metrics", {}).items()},
        },
    }


def describe_rows(context: StageContext, dataset: StampDataset, measures: pd.DataFrame) -> pd.DataFrame:
    """The columns of preprocess, row for row with the dataset's catalogue, with `object_id` to tell them by."""
    catalog, settings = dataset.catalog, context.profile.preprocess
    quality = context.survey.quality
    flags = quality_flags(measures, catalog, dataset.bands, dataset.units, dataset.stamp_size, quality)
    groups = duplicate_groups(catalog, measures["pixel_hash"], settings.duplicate_radius)
    own = pd.DataFrame(
        {
            "object_id": catalog["object_id"],
            "split": assign_splits(catalog, groups, stamp_widths(catalog, context.survey), settings),
            "usable": usable_stamps(flags, (catalog["state"] == "valid").to_numpy(), quality),
            "duplicate_group": groups,
        }
    )
    numbers = [f"{what}_{band}" for band in dataset.bands for what in ("sky", "noise")]
    return pd.concat([own, flags, measures[[*numbers, *NAMES]]], axis=1)


def _report(context: StageContext, half: int) -> Report:
    """The stage's bar: measuring is its first half, counting pixels its second."""

    def report(done: int, total: int, note: str) -> None:
        context.progress(half * total + done, 2 * total, ("measure: ", "statistics: ")[half] + note)

    return report


def _metrics(table: pd.DataFrame) -> dict[str, float]:
    """Numbers by name; each carries its source."""
    metrics: dict[str, float] = {}
    for source, rows in table.groupby("source"):
        valid = rows[rows["state"] == "valid"]
        metrics[f"{source}.stamps"] = float(len(valid))
        metrics[f"{source}.usable"] = float(rows["usable"].sum())
        for split in (*SPLITS, GUARD):
            metrics[f"{source}.{split}"] = float((rows["usable"] & (rows["split"] == split)).sum())
        for name in FLAGS:
            metrics[f"{source}.flag_{name}"] = float(valid[f"flag_{name}"].mean()) if len(valid) else 0.0
        metrics[f"{source}.duplicates"] = float(len(rows) - rows["duplicate_group"].nunique())
    return metrics


def _realism(context: StageContext, prepared: PreparedDataset) -> dict[str, Any]:
    """How simulated stamps compare with real ones, where there are any of both."""
    simulated = [source.name for source in context.survey.sources if source.kind == "simulated"]
    rows = np.flatnonzero((prepared.table["source"].isin(simulated) & prepared.table["usable"]).to_numpy())
    if not len(rows):
        return {}
    from tasks.preprocess.realism import realism_report  # needed for simulated sources alone

    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:REALISM_STAMPS])
    pictures = stamp_pictures(prepared.dataset.read_rows(chosen), prepared.dataset.units, prepared.dataset.bands)
    return dict(realism_report(pictures, context.settings.sky, context.folder / "figures"))
