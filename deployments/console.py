"""What a run shows in a terminal: one line and one progress bar per stage, and a table at the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.progress import StageProgress, listening

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def stages_shown(console: Console) -> Iterator[None]:
    """Show every stage that reports progress: as bars in a terminal, as plain lines in a file or a log."""
    with _bars(console) if console.is_terminal else _lines(console):
        yield


@contextmanager
def _bars(console: Console) -> Iterator[None]:
    bars: dict[str, TaskID] = {}
    columns = (
        "{task.description:<12}",
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        "{task.fields[note]}",
    )
    shown = [TextColumn(column, markup=False) if isinstance(column, str) else column for column in columns]
    with Progress(*shown, console=console) as progress:

        def show(report: StageProgress) -> None:
            if report.stage not in bars:
                bars[report.stage] = progress.add_task(report.stage, total=report.total, note="")
            progress.update(bars[report.stage], completed=report.done, total=report.total, note=report.note)
            if report.done >= report.total:
                progress.stop_task(bars[report.stage])

        with listening(show):
            yield


@contextmanager
def _lines(console: Console) -> Iterator[None]:
    shown: dict[str, tuple[float, int]] = {}

    def show(report: StageProgress) -> None:
        now = time.monotonic()
        when, done = shown.get(report.stage, (-SECONDS_BETWEEN_LINES, -1))
        finished = report.done >= report.total and done < report.total
        if finished or now - when >= SECONDS_BETWEEN_LINES:
            shown[report.stage] = (now, report.done)
            console.print(f"{report.stage:<12} {report.done:>6}/{report.total:<6} {report.note}", highlight=False)

    with listening(show):
        yield


@contextmanager
def stop_told(console: Console) -> Iterator[None]:
    """Say of a run that SIGTERM ends what is kept of it and how it goes on; a training says what it has saved."""
    try:
        yield
    except SystemExit as stopped:
        if stopped.code == 128 + signal.SIGTERM:
            silent = str(stopped) == str(stopped.code)
            told = "asked to stop; what is finished is kept" if silent else str(stopped)
            console.print(f"{told}. The same command carries on from there", highlight=False, soft_wrap=True)
        raise


def print_summary(console: Console, results: Mapping[str, Mapping[str, Any]], seconds: float) -> None:
    """Close a run with a short table: objects, models, catalogue, and where each thing lies."""
    table = Table(title=f"survey run, {seconds / 60:.1f} min", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for stage, result in results.items():
        for label, text in _SECTIONS.get(stage, _model)(result):
            table.add_row(label, text)
    console.print(table)
    skipped = [stage for stage, result in results.items() if result.get("skipped")]
    if skipped:
        console.print(f"done before, no work done again: {', '.join(skipped)}")


def _ingest(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    reasons = "".join(f"; {count} {reason}" for reason, count in result["refused"].items())
    counts = f"{result['objects']} in, {result['accepted']} accepted, {result['objects'] - result['accepted']} refused"
    return [("objects", counts + reasons), ("stamps", f"{result['dataset']}  digest {result['digest'][:12]}")]


def _preprocess(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    splits = ", ".join(f"{count} {split}" for split, count in result["splits"].items())
    flags = ", ".join(f"{count} {flag}" for flag, count in result["flags"].items() if count)
    return [
        ("splits", splits),
        ("flags", flags or "none"),
        ("prepared", result["prepared"]),
        ("  report", result["report"]),
    ]


def _model(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    registered = result["registered"]
    value = result["metrics"].get(result["headline"], float("nan"))
    text = f"version {registered['version']}, {result['headline']} {value:.3f}; {registered['decision']}"
    return [
        (registered["name"], text),
        ("  load", f'mlflow.pyfunc.load_model("models:/{registered["name"]}@champion")'),
    ]


def _infer(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    refused = sum(result["refused"].values())
    rows = f"{result['rows']} rows, {refused} refused, digest {result['digest'][:12]}"
    where = f"{result['catalogue']}  (astropy.table.Table.read, pandas.read_parquet, TOPCAT)"
    return [("catalogue", rows), ("  open", where), ("lens list", str(result.get("lenses", "")))]


_SECTIONS = {"ingest": _ingest, "preprocess": _preprocess, "infer": _infer}
