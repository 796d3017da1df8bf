"""Metrics over time: written to a file at once, sent to MLflow in batches, each (metric, step) once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

FLUSH_SECONDS = 5.0
BATCH = 1000  # MLflow's limit for metrics in a call


class MetricJournal:
    """The `Record` of a stage (tasks/stage.py): `journal(step, {"loss": 0.3})`.

    The file is the truth: a line is in it before the call returns, so a killed stage loses nothing,
    and a carried-on one, which repeats the steps since its checkpoint, repeats no point.

    Parameters
    ----------
    path
        File of one JSON line per call.
    """

    def __init__(self, client: MlflowClient, run_id: str, path: Path, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._client = client
        self._run_id = run_id
        self._flush_seconds = flush_seconds
        self._seen: set[tuple[str, int]] = set()
        self._last: dict[str, tuple[int, float]] = {}
        self._waiting: list[tuple[str, float, int, int]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        for step, stamp, metrics in _read(path):
            self._queue(step, stamp, metrics)
        self._drop_sent()
        _end_last_line(path)
        self._file = path.open("a", buffering=1)
        self._next_flush = time.monotonic() + flush_seconds

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note the metrics at `step`; a metric that has a value at this step keeps it."""
        stamp = int(time.time() * 1000)
        fresh = self._queue(step, stamp, metrics)
        if fresh:
            self._file.write(json.dumps([step, stamp, fresh]) + "\n")
        if time.monotonic() >= self._next_flush:
            self._flush_if_possible()

    def final(self, metrics: Mapping[str, float]) -> None:
        """Note the metrics that a stage ends with: a step after the last where they were followed over time."""
        for key, value in metrics.items():
            step, last = self._last.get(key, (-1, float("nan")))
            if last != float(value):  # a stage that is started again after its end says the same once more
                self(step + 1, {key: value})

    def flush(self) -> None:
        """Send what waits; raises MLflow's exception if that fails, and what waits is kept."""
        from mlflow.entities import Metric

        while self._waiting:
            batch = self._waiting[:BATCH]
            self._client.log_batch(self._run_id, [Metric(key, value, stamp, step) for key, value, stamp, step in batch])
            del self._waiting[: len(batch)]
        self._next_flush = time.monotonic() + self._flush_seconds

    def close(self) -> None:
        """Close the file; call `flush` before."""
        self._file.close()

    def _queue(self, step: int, stamp: int, metrics: Mapping[str, float]) -> dict[str, float]:
        fresh = {key: float(value) for key, value in metrics.items() if (key, int(step)) not in self._seen}
        for key, value in fresh.items():
            self._seen.add((key, int(step)))
            self._last[key] = max(self._last.get(key, (-1, value)), (int(step), value))
            self._waiting.append((key, value, stamp, int(step)))
        return fresh

    def _drop_sent(self) -> None:
        sent = {
            (key, point.step)
            for key in sorted({key for key, *_ in self._waiting})
            for point in self._client.get_metric_history(self._run_id, key)
        }
        self._waiting = [point for point in self._waiting if (point[0], point[3]) not in sent]

    def _flush_if_possible(self) -> None:
        """A tracking server that is away for a while must not end a training run; the end's flush insists."""
        from mlflow.exceptions import MlflowException

        try:
            self.flush()
        except MlflowException:
            self._next_flush = time.monotonic() + 10 * self._flush_seconds


def _read(path: Path) -> list[tuple[int, int, dict[str, float]]]:
    lines = path.read_text().splitlines() if path.exists() else []
    found = []
    for line in lines:
        try:
            step, stamp, metrics = json.loads(line)
        except ValueError:  # the last line of a process that was killed as it wrote
            continue
        found.append((int(step), int(stamp), dict(metrics)))
    return found


def _end_last_line(path: Path) -> None:
    if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
