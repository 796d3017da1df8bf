"""The quality report: one page that says what came in, what is usable, and shows what was flagged and why."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.account import FATES, Account
from tasks.preprocess.flags import LEAST_COVERAGE, MOST_MASKED, MOST_SATURATION, TRAIL_EXCESS, flag_limits
from tasks.preprocess.gallery import Gallery, flag_captions
from tasks.preprocess.page import HEIGHT, MARGIN, SMALL, WIDTH, Page
from tasks.preprocess.prepared import PreparedDataset
from tasks.preprocess.report_panels import BAND_COLOURS, draw_histogram, draw_shares, draw_sky, draw_strip
from tasks.preprocess.splits import GUARD, SPLITS

MOST_SOURCES = 8
"""Sources with a line of their own; the smallest are added up."""

MOST_REASONS = 4

SMALLEST_PICTURE = 0.52
"""Inches; its caption is about as wide."""

GREY = "#777777"


def draw_report(
    prepared: PreparedDataset, gallery: Gallery, account: Account, survey: SurveyDefinition, closest: float, path: Path
) -> Path:
    """Draw the page; returns the PNG file.

    Parameters
    ----------
    closest
        Smallest separation of two objects of different splits, arcsec; NaN where there are none.
    """
    page = Page()
    _head(page, prepared, account, survey)
    _sources(page, account)
    _sky_and_losses(page, prepared, account, closest)
    _measures(page, prepared, survey)
    _flagged(page, prepared, gallery, account, survey)
    _usable(page, gallery)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.figure.savefig(path)
    return path


def _head(page: Page, prepared: PreparedDataset, account: Account, survey: SurveyDefinition) -> None:
    total, dataset = account.total, prepared.dataset
    page.text(MARGIN, page.top, f"Stamps of {survey.name.replace('_', ' ')}", size=14, weight="bold")
    about = f"{dataset.stamp_size} px, bands {' '.join(dataset.bands)}, {dataset.units}; digest {prepared.digest[:12]}"
    page.text(WIDTH - MARGIN, page.top + 0.06, about, color=GREY, ha="right")
    page.text(MARGIN, page.top + 0.3, account.sentence(), size=9)
    splits = ", ".join(f"{total[split]:,} {split}" for split in (*SPLITS, GUARD))
    page.text(
        MARGIN,
        page.top + 0.48,
        f"{total['usable']:,} usable: {splits}; {total['flagged']:,} flagged as unusable",
        size=9,
    )
    page.top += 0.92
    if account.problem():
        page.text(MARGIN, page.top - 0.24, account.problem(), size=9, color="#bb0000", weight="bold")
        page.top += 0.2


def _sources(page: Page, account: Account) -> None:
    """A table of counts, and a bar of shares beside each line."""
    counts = account.sources.sort_values("objects", ascending=False, kind="stable")
    if len(counts) > MOST_SOURCES:
        rest = counts.iloc[MOST_SOURCES - 1 :]
        counts = counts.iloc[: MOST_SOURCES - 1]
        counts.loc[f"{len(rest)} others"] = rest.sum()
    columns = ["objects", *FATES, "flagged", *SPLITS, GUARD]
    line, first = 0.155, 1.55
    places = {name: first + 0.42 * place for place, name in enumerate(columns)}
    for name, place in places.items():
        page.text(place, page.top, name.replace("_", "\n"), size=SMALL - 1, color=GREY, ha="right", va="bottom")
    shown = counts if len(counts) == 1 else pd.concat([counts, counts.sum().to_frame("all").T])
    for number, (source, row) in enumerate(shown.iterrows()):
        top = page.top + 0.05 + line * number
        weight = "bold" if source == "all" else "normal"
        page.text(MARGIN, top, str(source).replace("_", " ")[:18], weight=weight)
        for name, place in places.items():
            colour = GREY if row[name] == 0 else "black"
            page.text(place, top, _count(row[name]), ha="right", weight=weight, color=colour)
    left = first + 0.42 * len(columns) - 0.25
    draw_shares(page.axes(left, page.top + 0.03, WIDTH - MARGIN - left, line * len(shown)), shown)
    page.top += 0.05 + line * len(shown) + 0.15


def _sky_and_losses(page: Page, prepared: PreparedDataset, account: Account, closest: float) -> None:
    page.heading("The sky by split")
    table = prepared.columns(["ra", "dec", "state", "split", "usable", "duplicate_group"])
    width, height = 4.3, 1.95

    def add_axes(**options: Any) -> Axes:
        inset = 0.05 if options else 0.35
        return page.axes(MARGIN + inset, page.top + 0.12, width - inset, height - (0.1 if options else 0.32), **options)

    draw_sky(add_axes, table)
    left, top = MARGIN + width + 0.3, page.top - 0.2
    page.text(left, top, "No stamp", size=8, weight="bold")
    top += 0.2
    if account.reasons.empty:
        page.text(left, top, "every object has one", color=GREY)
        top += 0.2
    for _, row in account.reasons.head(MOST_REASONS).iterrows():
        page.text(left, top, f"{row['count']:,}  {row['reason']}  ({row['source']})")
        page.text(left + 0.1, top + 0.12, _shortened(str(row["example"]), 62), size=SMALL - 1.5, color=GREY)
        top += 0.26
    if len(account.reasons) > MOST_REASONS:
        rest = account.reasons.iloc[MOST_REASONS:]
        page.text(left, top, f"{rest['count'].sum():,}  for {len(rest)} other reasons", color=GREY)
        top += 0.2
    top += 0.1
    page.text(left, top, "Objects in several rows", size=8, weight="bold")
    sizes = np.unique(table["duplicate_group"].to_numpy(), return_counts=True)[1]
    several = sizes[sizes > 1]
    page.text(left, top + 0.2, f"{len(several):,}, in {int(several.sum()):,} rows" if len(several) else "none")
    top += 0.46
    page.text(left, top, "Between the splits", size=8, weight="bold")
    words = (
        "no two objects with positions" if np.isnan(closest) else f"the nearest two objects are {_angle(closest)} apart"
    )
    page.text(left, top + 0.2, words)
    page.top = max(page.top + height + 0.2, top + 0.5)


def _measures(page: Page, prepared: PreparedDataset, survey: SurveyDefinition) -> None:
    bands, rgb = prepared.dataset.bands, prepared.dataset.units == "rgb"
    of_bands = {name: [f"{name}_{band}" for band in bands] for name in ("noise", "background", "gradient")}
    names = ["source", "coverage", "snr", "saturation", "trail", *(name for some in of_bands.values() for name in some)]
    masked = "mask_fraction" in prepared.names
    table = prepared.columns([*names, *(["mask_fraction"] if masked else [])])
    sources = sorted(map(str, table["source"].unique()))
    colours = {source.replace("_", " "): f"C{place % 10}" for place, source in enumerate(sources)}

    def by_source(name: str) -> dict[str, pd.Series]:
        return {source.replace("_", " "): table.loc[table["source"] == source, name] for source in sources}

    def by_band(name: str) -> dict[str, pd.Series]:
        return {band: table[f"{name}_{band}"] for band in bands}

    page.heading("Measures, as shares of the stamps")
    width, height, gap = 2.2, 0.98, 0.42
    places = [
        page.axes(MARGIN + 0.2 + (width + gap) * (n % 3), page.top + 0.06 + (height + 0.4) * (n // 3), width, height)
        for n in range(6)
    ]
    unit = "display steps" if rgb else "nanomaggy"
    draw_histogram(places[0], by_source("coverage"), "coverage", colours, limits=[LEAST_COVERAGE], within=(0, 1))
    faint = [survey.quality.minimum_snr] if survey.quality.minimum_snr > 0 else []
    draw_histogram(places[1], by_source("snr"), "signal-to-noise", colours, limits=faint, logarithmic=True)
    title = f"noise of a pixel, {unit}"
    draw_histogram(places[2], by_band("noise"), title, BAND_COLOURS, logarithmic=True)
    if rgb:
        saturated = [MOST_SATURATION]
        draw_histogram(places[3], by_source("saturation"), "saturation", colours, limits=saturated, within=(0, 1))
    else:
        draw_histogram(places[3], by_band("background"), "residual background, sigma of a pixel", BAND_COLOURS)
    title = "gradient across the stamp, sigma of a pixel"
    draw_histogram(places[4], by_band("gradient"), title, BAND_COLOURS, logarithmic=True)
    if masked:
        title, masks = "share that the survey masked", by_source("mask_fraction")
        draw_histogram(places[5], masks, title, colours, limits=[MOST_MASKED], within=(0, 1))
    else:
        title, lines = "line across the stamp, sigma", by_source("trail")
        draw_histogram(places[5], lines, title, colours, limits=[TRAIL_EXCESS])
    page.top += 2 * (height + 0.4) - 0.05


def _flagged(
    page: Page, prepared: PreparedDataset, gallery: Gallery, account: Account, survey: SurveyDefinition
) -> None:
    """Stamps of each flag, in two columns where there are many flags."""
    page.heading("Flagged stamps, each with the measures that the limit is set for")
    flags, limits = list(gallery.flagged), flag_limits(survey.quality, prepared.dataset.units)
    if not flags:
        page.text(MARGIN, page.top, "none", color=GREY)
        page.top += 0.25
        return
    table = prepared.columns([f"flag_{name}" for name in flags])
    columns = 1 if len(flags) <= 3 else 2
    width = (WIDTH - 2 * MARGIN - 0.2 * (columns - 1)) / columns
    rows = -(-len(flags) // columns)
    height = min(1.1, (HEIGHT - 0.15 - page.top) / rows)
    room = height - 0.42
    step = max(room, SMALLEST_PICTURE) * 1.06
    places = round(width / step)
    for number, name in enumerate(flags):
        left = MARGIN + (width + 0.2) * (number % columns)
        top = page.top + height * (number // columns)
        count = int(table[f"flag_{name}"].sum())
        acts = "" if name in survey.quality.flags else ", stays usable"
        share = count / max(account.total["valid"], 1)
        page.text(left, top, f"{name.replace('_', ' ')}: {count:,} ({share:.1%}){acts}", weight="bold")
        page.text(left, top + 0.12, limits[name], size=SMALL - 1, color=GREY)
        chosen = gallery.of_flag(name, places)
        pictures, captions = [gallery.pictures[row] for row in chosen], flag_captions(prepared, name, chosen)
        draw_strip(page.axes(left, top + 0.25, width, room), pictures, captions, places, step / room)
    page.top += height * rows + 0.05


def _usable(page: Page, gallery: Gallery) -> None:
    """Random usable stamps, in what room is left."""
    width, room = WIDTH - 2 * MARGIN, 0.66
    places, rows = int(width / (room * 1.06)), int((HEIGHT - page.top - 0.35) / (room * 1.06))
    chosen = gallery.of_usable(places * max(rows, 0))
    if not len(chosen):
        return
    page.heading("Usable stamps, by chance")
    for start in range(0, len(chosen), places):
        pictures = [gallery.pictures[row] for row in chosen[start : start + places]]
        draw_strip(page.axes(MARGIN, page.top, width, room), pictures, [""] * len(pictures), places)
        page.top += room * 1.06


def _count(number: int) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:,.2f} M"


def _shortened(text: str, length: int) -> str:
    return textwrap.shorten(text, length, placeholder=" ...") if " " in text[:length] else text[:length]


def _angle(arcsec: float) -> str:
    if arcsec < 120:
        return f'{arcsec:.0f}"'
    return f"{arcsec / 60:.0f}'" if arcsec < 7200 else f"{arcsec / 3600:.1f}°"
