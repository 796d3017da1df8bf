"""Sheets of a prepared dataset: usable stamps by source, stamps by flag, and the measures that tell them apart."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.figures import save_grid
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.flags import MEASURES_OF_FLAG
from tasks.preprocess.gallery import Gallery, flag_captions
from tasks.preprocess.prepared import PreparedDataset

matplotlib.use("Agg")

COLUMNS = 10
MARGINS = {"left": 0.055, "right": 0.99, "bottom": 0.09, "top": 0.92, "wspace": 0.26, "hspace": 0.28}
"""Of the histograms' panels, as shares of the sheet; to have them measured takes longer than to draw them."""

HISTOGRAMS = ("snr", "half_light_radius", "falloff", "concentration", "elongation", "offset", "bright_area", "trail")


def draw_sheets(prepared: PreparedDataset, gallery: Gallery, survey: SurveyDefinition, folder: Path) -> list[Path]:
    """Draw all of them; returns the PNG files."""
    figures = [_thumbnails(prepared, gallery, survey, folder / "thumbnails.png")]
    figures += [_flagged(prepared, gallery, name, folder / f"flag_{name}.png") for name in gallery.flagged]
    return [*figures, _histograms(prepared.columns(["source", *HISTOGRAMS]), folder / "measures.png")]


def _thumbnails(prepared: PreparedDataset, gallery: Gallery, survey: SurveyDefinition, path: Path) -> Path:
    """Two rows of random usable stamps of each source, with their class or grade."""
    labels = prepared.columns([name for name in prepared.names if name.startswith(("label.", "grade."))])
    rows, titles, captions = [], [], []
    for source, chosen in gallery.usable.items():
        for start in range(0, len(chosen), COLUMNS):
            part = chosen[start : start + COLUMNS]
            rows.append([gallery.pictures[row] for row in part])
            captions.append(list(_labels(labels.iloc[part], survey)))
            titles.append(source.replace("_", " ") if start == 0 else "")
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


def _flagged(prepared: PreparedDataset, gallery: Gallery, name: str, path: Path) -> Path:
    """Random flagged stamps of every source, with the measures that did it."""
    table = prepared.columns(["source", "state", f"flag_{name}"])
    valid = table["state"] == "valid"
    rows, captions, titles = [], [], []
    for source, chosen in gallery.flagged[name].items():
        of_source = valid & (table["source"] == source)
        share = (of_source & table[f"flag_{name}"]).sum() / of_source.sum()
        for start in range(0, len(chosen), COLUMNS):
            part = chosen[start : start + COLUMNS]
            rows.append([gallery.pictures[row] for row in part])
            captions.append(flag_captions(prepared, name, part))
            titles.append(f"{source.replace('_', ' ')}\n{share:.1%}" if start == 0 else "")
    measures = ", ".join(measure.replace("_", " ") for measure in MEASURES_OF_FLAG[name])
    return save_grid(path, rows, titles, captions, f"Flagged {name.replace('_', ' ')}; below: {measures}")


def _histograms(table: pd.DataFrame, path: Path) -> Path:
    figure = Figure(figsize=(13, 5.6), dpi=110)
    for axes, name in zip(figure.subplots(2, 4, gridspec_kw=MARGINS).flat, HISTOGRAMS, strict=True):
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
