"""Pictures of a prepared dataset: stamps by source, by flag, measures, and the splits on the sky."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from galaxy_models.photometry import VIEWER_SCALES, viewer_rgb
from tasks.figures import save_grid
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.flags import FLAGS
from tasks.preprocess.prepared import PreparedDataset
from tasks.preprocess.splits import GUARD, SPLITS

matplotlib.use("Agg")

COLUMNS = 10
SHEET_SHARDS = 12
"""A sheet is drawn from at most so many shards: reading is by whole shards."""

COLOURS = {"train": "#4477aa", "validation": "#ccbb44", "test": "#ee6677", GUARD: "#999999"}

HISTOGRAMS = ("snr", "half_light_radius", "falloff", "concentration", "elongation", "offset", "bright_area", "trail")


def draw_figures(prepared: PreparedDataset, survey: SurveyDefinition, folder: Path) -> list[Path]:
    """Draw all of them; returns the PNG files."""
    figures = [_thumbnails(prepared, survey, folder / "thumbnails.png")]
    figures += [
        _flagged(prepared, name, folder / f"flag_{name}.png") for name in FLAGS if prepared.table[f"flag_{name}"].any()
    ]
    figures += [_histograms(prepared.table, folder / "measures.png")]
    if np.isfinite(prepared.table["ra"]).any():
        figures.append(_sky_map(prepared.table, folder / "splits.png"))
    return figures


def stamp_pictures(images: np.ndarray, units: str, bands: Sequence[str]) -> np.ndarray:
    """Raw stamps (n, C, H, W) as pictures (n, 3, H, W), RGB in 0..1 float32.

    Fluxes go through the viewer's stretch where three of its bands are there, otherwise their mean is shown in grey.
    """
    if units == "rgb":
        return images.astype(np.float32) / 255
    known = [index for index, band in enumerate(bands) if band in VIEWER_SCALES][-3:]
    fluxes = images.astype(np.float32)
    if len(known) == 3:
        return np.asarray(viewer_rgb(torch.from_numpy(fluxes[:, known]), [bands[index] for index in known]))
    mean = fluxes.mean(axis=1, keepdims=True)
    low, high = np.percentile(mean, (5, 99.5))
    return np.repeat(np.clip((mean - low) / max(high - low, 1e-6), 0, 1), 3, axis=1)


def _choose(prepared: PreparedDataset, mask: pd.Series, count: int, seed: int) -> np.ndarray:
    """Random rows of a mask, from few shards."""
    rows = np.flatnonzero((mask & (prepared.table["state"] == "valid")).to_numpy())
    if not len(rows):
        return rows
    generator = np.random.default_rng(seed)
    where, _ = prepared.dataset.locate(rows)
    shards = generator.permutation(np.unique(where))[:SHEET_SHARDS]
    return np.sort(generator.permutation(rows[np.isin(where, shards)])[:count])


def _pictures(prepared: PreparedDataset, rows: np.ndarray) -> np.ndarray:
    return stamp_pictures(prepared.dataset.read_rows(rows), prepared.dataset.units, prepared.dataset.bands)


def _thumbnails(prepared: PreparedDataset, survey: SurveyDefinition, path: Path) -> Path:
    """Two rows of random usable stamps of each source, with their class or grade."""
    labels = _labels(prepared.table, survey)
    rows, titles, captions = [], [], []
    for seed, source in enumerate(survey.sources):
        chosen = _choose(
            prepared, (prepared.table["source"] == source.name) & prepared.table["usable"], 2 * COLUMNS, seed
        )
        for start in range(0, len(chosen), COLUMNS):
            part = chosen[start : start + COLUMNS]
            rows.append(list(_pictures(prepared, part)))
            captions.append([labels[row] for row in part])
            titles.append(source.name.replace("_", " ") if start == 0 else "")
    return save_grid(path, rows, titles, captions, "Random usable stamps")


def _labels(table: pd.DataFrame, survey: SurveyDefinition) -> np.ndarray:
    """(N,) short text: the class where there is one, else the grade."""
    text = np.full(len(table), "", object)
    for label in reversed(survey.labels):
        if label.kind == "classes":
            codes, names = class_codes(table, label), np.array([*class_names(label), ""], object)
            text = np.where(codes >= 0, names[codes], text)
        elif label.kind == "grade":
            grade = table[f"grade.{label.name}"].to_numpy(float)
            empty = np.isfinite(grade) & (text == "")
            text[empty] = [f"grade {value:.2g}" for value in grade[empty]]
    return np.array([value.replace("_", " ") for value in text], object)


REASONS = {
    "blank": ("coverage", "peak"),
    "faint": ("snr",),
    "star": ("falloff", "half_peak_radius"),
    "trail": ("trail",),
    "saturated": ("saturation",),
    "crowded": ("bright_area", "area"),
    "off_centre": ("offset", "outshone"),
}
"""Measures that a flag comes from, for the captions."""


def _flagged(prepared: PreparedDataset, name: str, path: Path) -> Path:
    """Random flagged stamps of every source, with the measures that did it."""
    table = prepared.table
    rows, captions, titles = [], [], []
    for seed, source in enumerate(sorted(map(str, table["source"].unique()))):
        stamps = table[table["source"] == source]
        mask = (table["source"] == source) & table[f"flag_{name}"]
        chosen = _choose(prepared, mask, 2 * COLUMNS, seed)
        for start in range(0, len(chosen), COLUMNS):
            part = chosen[start : start + COLUMNS]
            rows.append(list(_pictures(prepared, part)))
            values = table.loc[part, list(REASONS[name])].to_numpy(float)
            captions.append([" ".join(f"{value:.2g}" for value in line) for line in values])
            share = mask.sum() / max((stamps["state"] == "valid").sum(), 1)
            titles.append(f"{source.replace('_', ' ')}\n{share:.1%}" if start == 0 else "")
    measures = ", ".join(measure.replace("_", " ") for measure in REASONS[name])
    return save_grid(path, rows, titles, captions, f"Flagged {name.replace('_', ' ')}; below: {measures}")


def _histograms(table: pd.DataFrame, path: Path) -> Path:
    figure = Figure(figsize=(13, 5.6), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(2, 4).flat, HISTOGRAMS, strict=True):
        known = table[name][np.isfinite(table[name])]
        low, high = np.quantile(known, (0.002, 0.995)) if len(known) else (0.0, 1.0)
        if name == "snr":
            low = max(low, 0.1)
        bins = (
            np.geomspace(low, max(high, 1.01 * low), 50)
            if name == "snr"
            else np.linspace(low, max(high, low + 1e-6), 50)
        )
        for index, source in enumerate(sorted(map(str, table["source"].unique()))):
            values = known[table.loc[known.index, "source"] == source]
            weights = np.full(len(values), 1 / max(len(values), 1))
            axes.hist(values, bins, weights=weights, histtype="step", color=f"C{index}", label=source.replace("_", " "))
        if name == "snr":
            axes.set_xscale("log")
        axes.set_xlabel(name.replace("_", " "))
    figure.axes[0].set_ylabel("share of the source's stamps")
    figure.axes[0].legend(fontsize=7)
    figure.suptitle("Measures of the stamps, by source", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _sky_map(table: pd.DataFrame, path: Path) -> Path:
    figure = Figure(figsize=(11, 5.5), dpi=110, layout="constrained")
    axes = figure.subplots(subplot_kw={"projection": "mollweide"})
    for split in (*SPLITS, GUARD):
        rows = table[(table["split"] == split) & np.isfinite(table["ra"])]
        longitude = np.radians((rows["ra"] + 180) % 360 - 180)
        # right ascension grows to the left
        axes.scatter(
            -longitude, np.radians(rows["dec"]), s=4, color=COLOURS[split], label=f"{split} ({len(rows)})", linewidths=0
        )
    axes.grid(alpha=0.3)
    axes.set_xticklabels([f"{(360 - angle) % 360}°" for angle in range(-150, 180, 30)], fontsize=7)
    axes.legend(fontsize=8, markerscale=3, loc="lower right")
    axes.set_title("Splits on the sky (ICRS)", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
