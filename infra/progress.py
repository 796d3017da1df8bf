"""How far a stage is: the work says it, whoever listens (a terminal, the Prefect UI) shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """What a stage is handed to say how far it is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps are done; `note` is a short phrase such as the loss."""


@dataclass(frozen=True)
class StageProgress:
    """One report: stage name, steps done, steps in all, and a short note."""

    stage: str
    done: int
    total: int
    note: str


Listener = Callable[[StageProgress], None]

_listeners: list[Listener] = []
_lock = threading.Lock()  # flows run their tasks in threads


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every report of this process to `listener` while the context lasts."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


def progress_of(stage: str) -> Progress:
    """The reporter of one stage: `progress_of("ingest")(3, 10, "shard 3")`."""

    def report(done: int, total: int, note: str = "") -> None:
        with _lock:
            listeners = list(_listeners)
        for listener in listeners:
            listener(StageProgress(stage, done, total, note))

    return report


def silent(done: int, total: int, note: str = "") -> None:
    """A reporter that nobody hears, for library use and tests."""
