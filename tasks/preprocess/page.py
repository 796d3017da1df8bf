"""A page of text and axes, filled from the top."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")

WIDTH, HEIGHT = 8.27, 11.69
"""Inches: A4."""

MARGIN = 0.4
DOTS_PER_INCH = 160

SMALL = 6.5
"""Font size of what is not a title, points."""


class Page:
    """A page that is filled from the top; places are inches from its left and upper edges."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DOTS_PER_INCH)
        self.top = MARGIN - 0.05

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Axes with the given corner and size."""
        box = (left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT)
        return self.figure.add_axes(box, **options)

    def text(self, left: float, top: float, text: str, size: float = SMALL, **options: Any) -> None:
        """Text whose upper left corner is given."""
        self.figure.text(left / WIDTH, 1 - top / HEIGHT, text, fontsize=size, **{"va": "top", **options})

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.text(MARGIN, self.top, text, size=8, weight="bold")
        self.top += 0.2
