"""The preprocess stage: measures, flags, groups, splits, statistics and pictures; no pixel is copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.cluster import open_client
from tasks.preprocess.account import Account, account_for
from tasks.preprocess.duplicates import duplicate_groups
from tasks.preprocess.flags import FLAGS, quality_flags, usable_stamps
from tasks.preprocess.gallery import choose_rows, make_gallery, stamp_pictures
from tasks.preprocess.leaks import closest_across_splits
from tasks.preprocess.measure import NAMES, OF_BAND, OVER_ERRORS
from tasks.preprocess.prepared import PreparedDataset, write_prepared
from tasks.preprocess.report import draw_report
from tasks.preprocess.shards import Report, count_pixels, measure_dataset
from tasks.preprocess.sheets import draw_sheets
from tasks.preprocess.splits import GUARD, SPLITS, assign_splits, check_splits, stamp_widths
from tasks.preprocess.statistics import train_statistics
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset

REALISM_STAMPS = 400
"""Simulated stamps that are laid beside real ones."""

NEEDED = ("object_id", "ra", "dec", "source", "field", "state", "pixel_scale")
OBSERVED = ("psf_size_", "coverage", "mask_fraction")
"""Columns of the catalogue that the stage reads, the first ones and those that begin so; it may have many others."""


def preprocess(context: StageContext) -> dict[str, Any]:
    """Measure every stamp, flag, group and split them, and describe the train split.

    Killed at any moment and started again, it takes finished shards as they are and ends with the same
    digest, with any number of workers.

    Returns
    -------
    dict
        `prepared` (path or URL), `digest`, `counts` (objects by what became of them), `splits` (usable stamps by
        split), `flags` (stamps by flag), `report` (a page, PNG), `figures` (the page and further PNG files), `notes`
        (sentences on objects, splits and realism), `metrics` (numbers by name).

    Raises
    ------
    GalaxyError
        If a shard of the stamps is lost or damaged, a split has no usable stamp, or two splits share sky.
    """
    ingested = context.upstream["ingest"]
    dataset = StampDataset.open(ingested["dataset"])
    catalog = dataset.columns([*NEEDED, *(name for name in dataset.names if name.startswith(OBSERVED))])
    with open_client(context.profile.cluster) as workers:
        measures = measure_dataset(dataset, context.folder, workers, _report(context, 0))
        own = describe_rows(context, dataset, catalog, measures)
        del measures  # a survey's worth of hashes
        table = pd.concat([catalog[[name for name in NEEDED if name not in own]], own], axis=1)
        notes = check_splits(table, context.profile.preprocess)
        closest = closest_across_splits(table, own["split"].to_numpy(object), stamp_widths(catalog, context.survey))
        train = table[table["usable"] & (table["split"] == "train")]
        counts = count_pixels(dataset, train.index.to_numpy(), context.folder, workers, _report(context, 1))
    statistics = train_statistics(counts, train, dataset.bands)
    prepared = write_prepared(context.store("prepared"), dataset, own, statistics)
    account = account_for(table, dataset.quarantine, ingested.get("objects"))
    page, figures = _draw(context, prepared, account, closest)
    realism = _realism(context, prepared)
    problems = [account.problem()] if account.problem() else []
    return {
        "prepared": prepared.root,
        "digest": prepared.digest,
        "counts": account.total,
        "splits": {split: int((own["usable"] & (own["split"] == split)).sum()) for split in (*SPLITS, GUARD)},
        "flags": {name: int(own[f"flag_{name}"].sum()) for name in FLAGS},
        "report": str(page),
        "figures": [str(path) for path in [page, *figures, *realism.get("figures", [])]],
        "notes": [*problems, *notes, *([realism["note"]] if "note" in realism else [])],
        "metrics": {
            **_metrics(table, dataset.bands),
            **({} if np.isnan(closest) else {"closest_across_splits_arcsec": closest}),
            **{f"realism.{name}": value for name, value in realism.get("metrics", {}).items()},
        },
    }


def describe_rows(
    context: StageContext, dataset: StampDataset, catalog: pd.DataFrame, measures: pd.DataFrame
) -> pd.DataFrame:
    """The columns of preprocess, row for row with the dataset's catalogue, with `object_id` to tell them by.

    `coverage` is what the source knew when it cut the stamp, since what is exactly zero may be a pixel like any other;
    where it told nothing, it is measured (see `Sky`).
    """
    settings, quality = context.profile.preprocess, context.survey.quality
    if "coverage" in catalog:
        told = catalog["coverage"].where(measures["coverage"].notna()).astype(np.float32)
        measures = measures.assign(coverage=told.fillna(measures["coverage"]))
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
    of_band = [f"{what}_{band}" for band in dataset.bands for what in (*OF_BAND, OVER_ERRORS)]
    return pd.concat([own, flags, measures[[*(name for name in of_band if name in measures), *NAMES]]], axis=1)


def _report(context: StageContext, half: int) -> Report:
    """The stage's bar: measuring is its first half, counting pixels its second."""

    def report(done: int, total: int, note: str) -> None:
        context.progress(half * total + done, 2 * total, ("measure: ", "statistics: ")[half] + note)

    return report


def _draw(
    context: StageContext, prepared: PreparedDataset, account: Account, closest: float
) -> tuple[Path, list[Path]]:
    """The report's page, and sheets with more stamps than fit on it."""
    gallery, folder = make_gallery(prepared), context.folder / "figures"
    page = draw_report(prepared, gallery, account, context.survey, closest, folder / "quality_report.png")
    return page, draw_sheets(prepared, gallery, context.survey, folder)


def _metrics(table: pd.DataFrame, bands: tuple[str, ...]) -> dict[str, float]:
    """Numbers by name; each carries its source."""
    metrics: dict[str, float] = {}
    medians = ["coverage", "snr", *(f"{name}_{band}" for band in bands for name in ("noise", "background", "gradient"))]
    for source, rows in table.groupby("source"):
        valid = rows[rows["state"] == "valid"]
        metrics[f"{source}.stamps"] = float(len(valid))
        metrics[f"{source}.usable"] = float(rows["usable"].sum())
        for split in (*SPLITS, GUARD):
            metrics[f"{source}.{split}"] = float((rows["usable"] & (rows["split"] == split)).sum())
        for name in FLAGS:
            metrics[f"{source}.flag_{name}"] = float(valid[f"flag_{name}"].mean()) if len(valid) else 0.0
        metrics[f"{source}.duplicates"] = float(len(rows) - rows["duplicate_group"].nunique())
        for name in medians:
            if valid[name].notna().any():
                metrics[f"{source}.{name}"] = float(valid[name].median())
    return metrics


def _realism(context: StageContext, prepared: PreparedDataset) -> Mapping[str, Any]:
    """How simulated stamps compare with real ones, where there are any of both."""
    simulated = [source.name for source in context.survey.sources if source.kind == "simulated"]
    if not simulated:
        return {}
    table = prepared.columns(["source", "usable"])
    chosen = choose_rows(prepared, (table["source"].isin(simulated) & table["usable"]).to_numpy(), REALISM_STAMPS)
    if not len(chosen):
        return {}
    from tasks.preprocess.realism import realism_report  # needed for simulated sources alone

    pictures = stamp_pictures(prepared.dataset.read_rows(chosen), prepared.dataset.units, prepared.dataset.bands)
    return dict(realism_report(pictures, context.settings.sky, context.folder / "figures"))
