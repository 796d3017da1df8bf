"""Figures that stages keep: drawn off-screen, one file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

matplotlib.use("Agg")

DOTS_PER_INCH = 110
CAPTION_GAP = 2 / 72
"""Inches between an image and its caption."""

LETTER = 0.066
"""Inches that a letter of a row's title takes, at most on average."""


def save_grid(
    path: Path,
    rows: Sequence[Sequence[np.ndarray]],
    row_titles: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    title: str = "",
    inches: float = 1.2,
) -> Path:
    """A sheet of stamps.

    Parameters
    ----------
    rows
        Rows of images, each (3, H, W) or (H, W, 3), RGB in 0..1 or uint8, or (H, W) as a map in grey.
    row_titles
        Text at the left of each row.
    captions
        Text under each image, as `rows`.
    inches
        Side of an image.
    """
    columns = max(len(row) for row in rows)
    margin = max(1.1, 0.12 + LETTER * max(map(len, row_titles))) if row_titles else 0.1
    line = 0.22 if captions else 0.05
    width, height = margin + columns * (inches + 0.05), len(rows) * (inches + line) + (0.4 if title else 0.1)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    # one pair of axes in inches for all: a pair for each image takes longer to make than the image to draw
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    top = height - (0.35 if title else 0.05)
    for y, row in enumerate(rows):
        bottom = top - (y + 1) * (inches + line) + line
        for x, image in enumerate(row):
            middle = margin + x * (inches + 0.05) + inches / 2
            _show(axes, image, middle, bottom + inches / 2, inches)
            if captions and x < len(captions[y]):
                axes.text(middle, bottom - CAPTION_GAP, captions[y][x], fontsize=6.5, ha="center", va="top")
        if row_titles:
            axes.text(0.06, bottom + inches / 2, row_titles[y], fontsize=8, va="center")
    if title:
        axes.text(0.06, height - 0.2, title, fontsize=9, va="center")
    return _save(figure, path)


def save_confusion(path: Path, matrix: ArrayLike, names: Sequence[str], title: str = "") -> Path:
    """A confusion matrix: counts, shaded by the share of the true class."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.75 * len(names)
    figure = Figure(figsize=(side + 0.4, side), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for y, x in np.ndindex(counts.shape):
        colour = "white" if shares[y, x] > 0.55 else "black"
        axes.text(x, y, f"{counts[y, x]}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(title, fontsize=9)
    return _save(figure, path)


def save_curves(
    path: Path,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    title: str = "",
    logarithmic: bool = False,
) -> Path:
    """Lines over a common axis; `curves` maps a name to x and y."""
    figure = Figure(figsize=(6, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for name, (x, y) in curves.items():
        marker = "o" if np.size(x) < 10 else None  # a line of one point would not be seen
        axes.plot(np.asarray(x), np.asarray(y), label=name, linewidth=1.4, marker=marker, markersize=3)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    if logarithmic:
        axes.set_yscale("log")
    if len(curves) > 1:
        axes.legend(fontsize=8)
    axes.set_title(title, fontsize=9)
    return _save(figure, path)


def save_scatter(
    path: Path, points: ArrayLike, groups: Sequence[str], x_label: str, y_label: str, title: str = ""
) -> Path:
    """Points (N, 2) coloured by group name; groups in alphabetical order, at most ten colours."""
    places, names = np.asarray(points), np.asarray(groups)
    figure = Figure(figsize=(5.6, 4.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(sorted(set(names.tolist()))):
        chosen = names == name
        label = f"{name.replace('_', ' ')} ({int(chosen.sum())})"
        x, y = places[chosen, 0], places[chosen, 1]
        axes.scatter(x, y, s=7, alpha=0.6, linewidths=0, color=f"C{index % 10}", label=label)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=7, markerscale=2)
    axes.set_title(title, fontsize=9)
    return _save(figure, path)


def _show(axes: Axes, image: np.ndarray, x: float, y: float, inches: float) -> None:
    """Draw an image about (x, y), its longer side so many inches."""
    picture = np.asarray(image)
    if picture.ndim == 3 and picture.shape[0] == 3 and picture.shape[2] != 3:
        picture = picture.transpose(1, 2, 0)
    if picture.dtype != np.uint8:
        picture = np.clip(picture.astype(np.float32), 0, 1)
    rows, columns = picture.shape[:2]
    right, up = (inches / 2 * side / max(rows, columns) for side in (columns, rows))
    axes.imshow(
        picture,
        cmap="gray" if picture.ndim == 2 else None,
        interpolation="nearest",
        vmin=0,
        vmax=1,
        extent=(x - right, x + right, y - up, y + up),
        aspect="auto",
    )


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
