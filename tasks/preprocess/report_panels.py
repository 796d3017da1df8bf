"""Parts of the quality report: the sky, histograms, strips of stamps, and bars of what became of the objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tasks.preprocess.duplicates import unit_vectors
from tasks.preprocess.page import SMALL
from tasks.preprocess.splits import GUARD, SPLITS

COLOURS = {
    "train": "#4477aa",
    "validation": "#ccbb44",
    "test": "#ee6677",
    GUARD: "#999999",
    "flagged": "#d9d9d9",
    "without a stamp": "#333333",
}
BAND_COLOURS = {"g": "#228833", "r": "#ee6677", "i": "#aa3377", "z": "#aa3377"} | {
    "R": "#ee6677",
    "G": "#228833",
    "B": "#4477aa",
}
LIMIT_COLOUR = "#bb0000"

MOST_POINTS = 30_000
"""Objects that the map shows; more would lie on top of each other."""

SMALL_FIELD = 20.0
"""Degrees; objects within so much of their middle are shown enlarged, others on the whole sky."""

BINS = 50


def draw_sky(add_axes: Callable[..., Axes], table: pd.DataFrame) -> None:
    """A map of the objects by split: of the whole sky, or of the field where all stamps lie in a small one.

    Parameters
    ----------
    add_axes
        Makes the axes, given a `projection`.
    table
        `ra`, `dec` (degrees, NaN unknown), `state`, `split`, `usable`.
    """
    placed = table[np.isfinite(table["ra"]) & np.isfinite(table["dec"])]
    stamps = placed[placed["state"] == "valid"]
    if stamps.empty:
        _say(add_axes(), "no stamp has a position")
        return
    if len(placed) > MOST_POINTS:
        placed = placed.iloc[np.sort(np.random.default_rng(0).permutation(len(placed))[:MOST_POINTS])]
    vectors = unit_vectors(stamps["ra"].to_numpy(float), stamps["dec"].to_numpy(float))
    middle = vectors.mean(axis=0)
    middle /= max(float(np.linalg.norm(middle)), 1e-9)
    radius = float(np.degrees(np.arccos(np.clip(vectors @ middle, -1, 1)).max()))
    dec = float(np.degrees(np.arcsin(middle[2])))
    if radius < SMALL_FIELD and abs(dec) + radius < 85:
        _field(add_axes(), placed, stamps, float(np.degrees(np.arctan2(middle[1], middle[0])) % 360), dec)
    else:
        _whole_sky(add_axes(projection="mollweide"), placed)


def _field(axes: Axes, placed: pd.DataFrame, stamps: pd.DataFrame, ra: float, dec: float) -> None:
    def east(rows: pd.DataFrame) -> np.ndarray:  # without a step at 0h
        return np.asarray((rows["ra"].to_numpy(float) - ra + 180) % 360 - 180 + ra)

    _scatter(axes, east(placed), placed["dec"].to_numpy(float), placed)
    x, y = east(stamps), stamps["dec"].to_numpy(float)
    frame = axes.get_window_extent()
    wide = frame.width / frame.height / np.cos(np.radians(dec))  # degrees of right ascension for one of declination
    half = 0.54 * max(float(np.ptp(x)) / wide, float(np.ptp(y)), 1e-3)
    x_middle, y_middle = (float(values.max() + values.min()) / 2 for values in (x, y))
    axes.set_xlim(x_middle + half * wide, x_middle - half * wide)  # east is left, as one looks up
    axes.set_ylim(y_middle - half, y_middle + half)
    axes.set_xlabel("right ascension, degrees", fontsize=SMALL, labelpad=1)
    axes.set_ylabel("declination, degrees", fontsize=SMALL, labelpad=1)
    axes.ticklabel_format(useOffset=False)
    _fine(axes)


def _whole_sky(axes: Axes, placed: pd.DataFrame) -> None:
    longitude = -np.radians((placed["ra"].to_numpy(float) + 180) % 360 - 180)  # right ascension grows to the left
    _scatter(axes, longitude, np.radians(placed["dec"].to_numpy(float)), placed)
    axes.set_xticks(np.radians(range(-120, 180, 60)), [f"{-angle % 360}°" for angle in range(-120, 180, 60)])
    axes.set_yticks(np.radians(range(-60, 90, 30)))
    _fine(axes)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, placed: pd.DataFrame) -> None:
    size = float(np.clip(4000 / len(placed), 1.5, 14))
    usable, split = placed["usable"].to_numpy(bool), placed["split"].to_numpy(object)
    valid = (placed["state"] == "valid").to_numpy()
    shown = {"without a stamp": ~valid, "flagged": valid & ~usable}
    shown |= {name: usable & (split == name) for name in (GUARD, *SPLITS)}
    for name, rows in shown.items():
        if rows.any():
            axes.scatter(x[rows], y[rows], s=size, color=COLOURS[name], label=name, linewidths=0)
    axes.legend(
        fontsize=SMALL, loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=6, frameon=False, markerscale=2,
        handletextpad=0.1, columnspacing=0.8,
    )  # fmt: skip


def draw_histogram(
    axes: Axes,
    values: Mapping[str, pd.Series],
    title: str,
    colours: Mapping[str, str],
    *,
    limits: Sequence[float] = (),
    logarithmic: bool = False,
    within: tuple[float, float] | None = None,
) -> None:
    """Distributions as steps, in shares of each one's stamps.

    Parameters
    ----------
    values
        Name to numbers; those that are not finite are left out.
    limits
        Values that a flag begins at, as lines.
    logarithmic
        Bins and axis grow by factors.
    within
        Range of the axis; from the numbers where absent. What lies outside counts in the last bin.
    """
    axes.set_title(title, fontsize=SMALL + 0.5, pad=3)
    known = {name: some[np.isfinite(some)].to_numpy(float) for name, some in values.items()}
    known = {name: some[some > 0] if logarithmic else some for name, some in known.items()}
    known = {name: some for name, some in known.items() if len(some)}
    if not known:
        _say(axes, "not known here")
        return
    low, high = within or _range(np.concatenate(list(known.values())), logarithmic)
    bins = np.geomspace(low, high, BINS) if logarithmic else np.linspace(low, high, BINS)
    for name, some in known.items():
        weights = np.full(len(some), 1 / len(some))
        colour = colours.get(name, "#333333")
        axes.hist(
            np.clip(some, low, high), bins.tolist(), weights=weights, histtype="step", color=colour, label=name, lw=0.9
        )
    for limit in limits:
        axes.axvline(limit, color=LIMIT_COLOUR, linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low, high)
    if 1 < len(known) <= 8:
        axes.legend(fontsize=SMALL - 1.5, frameon=False, handlelength=1, labelspacing=0.2, borderpad=0.1)
    _fine(axes)


def _range(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    low, high = np.quantile(values, (0.002, 0.998))
    if logarithmic:
        return float(low) / 1.1, float(max(high, low)) * 1.1
    margin = 0.05 * float(high - low) or 0.05 * abs(float(high)) or 1.0
    return float(low) - margin, float(high) + margin


def draw_strip(
    axes: Axes, pictures: Sequence[np.ndarray], captions: Sequence[str], places: int, spacing: float = 1.06
) -> None:
    """Pictures (3, H, W) uint8 with a caption under each, `spacing` sides apart; there is room for `places` of them."""
    axes.set_axis_off()
    if not pictures:
        return
    side = pictures[0].shape[-1]
    step = round(side * spacing)
    strip = np.full((side, step * places, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        strip[:, place * step : place * step + side] = picture.transpose(1, 2, 0)
        axes.text(place * step + side / 2, side * 1.03, captions[place], fontsize=SMALL - 1, ha="center", va="top")
    axes.imshow(strip, interpolation="antialiased")
    axes.set_anchor("NW")


def draw_shares(axes: Axes, counts: pd.DataFrame) -> None:
    """One bar a row of an account's `sources`: shares of the objects that are in which split, flagged, or no stamp."""
    shares = counts[[*SPLITS, GUARD, "flagged"]].copy()
    shares["without a stamp"] = counts["objects"] - counts["valid"]
    shares = shares.div(counts["objects"].clip(lower=1), axis=0)
    left = np.zeros(len(shares))
    for name in map(str, shares):
        axes.barh(range(len(shares)), shares[name], left=left, color=COLOURS[name], height=0.62, label=name)
        left += shares[name].to_numpy(float)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_axis_off()
    axes.legend(
        fontsize=SMALL - 0.5, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, handlelength=0.8,
        handletextpad=0.3, columnspacing=0.7, borderpad=0, borderaxespad=0.3, labelspacing=0.25,
    )  # fmt: skip


def _fine(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.tick_params(labelsize=SMALL - 0.5, length=2, pad=1.5, which="both")
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)


def _say(axes: Axes, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(0.5, 0.5, text, fontsize=SMALL, color="#777777", ha="center", va="center", transform=axes.transAxes)
