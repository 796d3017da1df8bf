"""What a training tells: its progress at once, its points when a checkpoint covers them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from .processes import Processes

Point = dict[str, float]

History = list[Point]
"""Points of the run, oldest first: `step` and the metrics recorded at it."""

Listener = Callable[[int, Mapping[str, float]], None]


class Progress(Protocol):
    """Who is told how far the training is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps; `note` tells the loss."""


class Records:
    """The points of the run. They are handed on when a checkpoint covers them, so that a resumed run repeats none.

    Parameters
    ----------
    path
        Keeps how many points have been handed on.

    Attributes
    ----------
    window
        Metrics of this process's batches since the last point.
    """

    def __init__(self, path: Path, listener: Listener | None, processes: Processes) -> None:
        self.path = path
        self.listener = listener
        self.processes = processes
        self.history: History = []
        self.window: list[Point] = []

    def begin(self) -> None:
        """Forget what an older run has handed on."""
        if self.processes.leads:
            self.path.unlink(missing_ok=True)

    def resume(self, history: History, window: list[Point]) -> None:
        """Take up a checkpoint's points; the batches of its window are counted by one process."""
        self.history = history
        self.window = window if self.processes.leads else []
        self.hand_on()

    def whole_window(self) -> list[Point]:
        """The windows of all processes."""
        return [values for window in self.processes.gathered(self.window) for values in window]

    def close_window(self) -> Point:
        """Mean of each metric over the batches that had it; the next window is empty."""
        window = self.whole_window()
        self.window = []
        names = sorted({name for values in window for name in values})
        columns = {name: [values[name] for values in window if name in values] for name in names}
        # an exact sum, so that the mean does not depend on which process had which batch
        return {name: math.fsum(column) / len(column) for name, column in columns.items()}

    def hand_on(self) -> None:
        """Hand on the points that were not handed on before."""
        if not self.processes.leads:
            return
        try:
            done = int(self.path.read_text())
        except (FileNotFoundError, ValueError):
            done = 0
        if self.listener is not None:
            for point in self.history[done:]:
                self.listener(int(point["step"]), {name: value for name, value in point.items() if name != "step"})
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text(str(len(self.history)))
        temporary.replace(self.path)
