"""Pictures of fine-tuning: shares over time, restored and rebuilt stamps, calibration, parameters against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.calibration import coverage_curve, reliability
from galaxy_models.masking import show_hidden
from galaxy_models.training import History
from tasks.figures import DOTS_PER_INCH, save_curves, save_grid

Arrays = NDArray[np.floating]

SHOWN = 8
"""Stamps on a picture."""


def save_shares(path: Path, history: History, tasks: Sequence[str]) -> Path:
    """Share of the training steps that each task gets, over time."""
    return save_curves(path, _over_time(history, "share", tasks), "step", "share of the steps", "Shares of the tasks")


def save_validation(path: Path, history: History, tasks: Sequence[str]) -> Path:
    """Validation score of each task over time: what the shares follow."""
    return save_curves(path, _over_time(history, "validation", tasks), "step", "score", "Validation scores")


def save_deficits(path: Path, history: History, tasks: Sequence[str]) -> Path:
    """How far each task is below its reference, over time: what the shares are made of."""
    return save_curves(path, _over_time(history, "deficit", tasks), "step", "deficit", "Deficits of the tasks")


def save_restored(path: Path, degraded: Tensor, restored: Tensor, original: Tensor, title: str) -> Path:
    """Blurred and noisy, restored, original."""
    rows = [list(images[:SHOWN].clamp(0, 1).numpy()) for images in (degraded, restored, original)]
    return save_grid(path, rows, ["blurred", "restored", "original"], title=title)


def save_rebuilt(path: Path, original: Tensor, filled: Tensor, hidden: Tensor, title: str) -> Path:
    """Masked, rebuilt, original."""
    masked = show_hidden(original[:SHOWN], hidden[:SHOWN])
    rows = [list(images.numpy()) for images in (masked, filled[:SHOWN], original[:SHOWN])]
    return save_grid(path, rows, ["masked", "rebuilt", "original"], title=title)


def save_reliability(
    path: Path, tables: Mapping[str, tuple[Arrays, NDArray[np.int64]]], uncalibrated: Mapping[str, Arrays]
) -> Path:
    """Accuracy against said confidence for each table's (probabilities, codes); on the diagonal a model is honest.

    Dashed: the same for the `uncalibrated` probabilities of some tables.
    """
    figure = Figure(figsize=(4.6, 4.4), dpi=DOTS_PER_INCH, layout="constrained")
    draw_reliability(figure.subplots(), tables, uncalibrated)
    return _save(figure, path)


def draw_reliability(
    axes: Axes, tables: Mapping[str, tuple[Arrays, NDArray[np.int64]]], uncalibrated: Mapping[str, Arrays]
) -> None:
    """What `save_reliability` keeps."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for index, (name, (probabilities, codes)) in enumerate(tables.items()):
        x, y, count = _reliability(probabilities, codes)
        error = np.sqrt(np.clip(y * (1 - y), 0.02, None) / count)
        colour = f"C{index % 10}"
        axes.errorbar(x, y, error, color=colour, linewidth=1.2, capsize=2, label=f"{name} ({int(count.sum())})")
        axes.scatter(x, y, s=6 + 60 * count / count.max(), color=colour, linewidths=0)
        if name in uncalibrated:
            x, y, _ = _reliability(uncalibrated[name], codes)
            axes.plot(x, y, color=colour, linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.set_title("Reliability on test stamps; dashed: before calibration", fontsize=9)
    axes.legend(fontsize=7, loc="upper left")


def save_coverage(path: Path, pulls: Mapping[str, Arrays], uncalibrated: Mapping[str, Arrays], title: str) -> Path:
    """Share of the truths within an interval against the probability it should have; on the diagonal sigmas are honest.

    Parameters
    ----------
    pulls, uncalibrated
        Question or parameter to (n,) distances of truth and prediction in sigmas, after and before calibration.
    """
    figure = Figure(figsize=(4.6, 4.4), dpi=DOTS_PER_INCH, layout="constrained")
    draw_coverage(figure.subplots(), pulls, uncalibrated, title)
    return _save(figure, path)


def draw_coverage(axes: Axes, pulls: Mapping[str, Arrays], uncalibrated: Mapping[str, Arrays], title: str) -> None:
    """What `save_coverage` keeps."""
    levels = np.linspace(0.02, 0.98, 49)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    for index, (name, values) in enumerate(pulls.items()):
        if len(values):
            label = f"{name.replace('_', ' ')} ({len(values)})"
            axes.plot(levels, coverage_curve(values, levels), color=f"C{index % 10}", linewidth=0.8, label=label)
    for name, kind, style in (("all, calibrated", pulls, "-"), ("all, before", uncalibrated, "--")):
        together = np.concatenate(list(kind.values()))
        if len(together):
            axes.plot(
                levels, coverage_curve(together, levels), color="black", linewidth=1.6, linestyle=style, label=name
            )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the interval", ylabel="share of truths within")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=5.5, loc="upper left", ncols=2 if len(pulls) > 8 else 1)


def save_parameters(path: Path, names: Sequence[str], truth: Arrays, value: Arrays, sigma: Arrays, title: str) -> Path:
    """Predicted against true value with 1 sigma bars, one panel a parameter; arrays are (n, parameters)."""
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.3), dpi=DOTS_PER_INCH, layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for place, name in enumerate(names):
        axes = panels[place]
        known = np.isfinite(truth[:, place])
        x, y, bar = truth[known, place], value[known, place], sigma[known, place]
        axes.errorbar(_spread_steps(x), y, bar, fmt="o", markersize=1.8, elinewidth=0.3, alpha=0.4, linewidth=0)
        if len(x):
            ends = [float(x.min()), float(x.max())]
            axes.plot(ends, ends, color="grey", linewidth=0.8, linestyle="--")
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.tick_params(labelsize=7)
    figure.supxlabel("true", fontsize=8)
    figure.supylabel("predicted", fontsize=8)
    figure.suptitle(title, fontsize=9)
    return _save(figure, path)


def _reliability(probabilities: Arrays, codes: NDArray[np.int64]) -> tuple[Arrays, Arrays, Arrays]:
    """Confidence, accuracy and count of the bins that are not empty."""
    curve = reliability(probabilities, codes, bins=8)
    filled = curve["count"] > 0
    return curve["confidence"][filled], curve["accuracy"][filled], curve["count"][filled]


def _spread_steps(truth: Arrays) -> Arrays:
    """Truths that come in few steps, such as Hubble types, drawn side by side instead of on top of one another."""
    steps = np.unique(truth)
    if not 1 < len(steps) <= 25:
        return truth
    offsets = np.random.default_rng(0).uniform(-0.3, 0.3, len(truth))
    return np.asarray(truth + offsets * np.diff(steps).min(), dtype=truth.dtype)


def _over_time(history: History, kind: str, tasks: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
    curves = {}
    for task in tasks:
        points = [point for point in history if f"{kind}.{task}" in point]
        if points:
            curves[task] = ([p["step"] + 1 for p in points], [p[f"{kind}.{task}"] for p in points])
    return curves


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
