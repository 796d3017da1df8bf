"""Stamps out of one large image: where each lies on it, and which pieces of it they need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Place = tuple[slice, slice]
"""Rows and columns."""

Tiles = tuple[int, int, int, int]
"""First and last + 1 of rows and of columns, in tiles."""

PIECE_TILES, TILE_OF_PIECE = 12.0, 1.35
"""What a piece of a compressed image costs to read, and each tile in one, in tiles of an image that is read whole: as
measured with astropy, which looks the header over for each piece, and fetches the tiles of a piece one by one."""


@dataclass(frozen=True)
class Square:
    """One stamp.

    Attributes
    ----------
    source
        The rows and columns of the image that the stamp shows; empty if it lies beyond.
    target
        Those of the stamp that they fill.
    overlap
        Share of the stamp that lies on the image.
    """

    source: Place
    target: Place
    overlap: float


class Cut:
    """Squares of an image.

    A square's middle is the nearest place to an object that whole pixels allow: at most half a pixel off along each
    axis. Nothing is resampled.

    Attributes
    ----------
    squares
        One for each object.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int, shape: tuple[int, int]) -> None:
        """Squares of `size` pixels around (n,) centres x, y, the centre of the first pixel of the image being 0."""
        self._shape = shape
        spans = np.stack([*_span(y, size, shape[0]), *_span(x, size, shape[1])], axis=1)
        self.squares = [
            Square(
                (slice(low, high), slice(left, right)),
                (slice(low - bottom, high - bottom), slice(left - edge, right - edge)),
                (high - low) * (right - left) / size**2,
            )
            for bottom, low, high, edge, left, right in spans.tolist()
        ]

    def pieces(self, tile: tuple[int, int]) -> list[Place] | None:
        """What to read of an image that is compressed in tiles of (rows, columns); None if all of it is had sooner."""
        down, across = tile
        needed = np.zeros((-(-self._shape[0] // down), -(-self._shape[1] // across)), bool)
        for square in self.squares:
            if square.overlap:
                rows, columns = square.source
                high, right = -(-rows.stop // down), -(-columns.stop // across)
                needed[rows.start // down : high, columns.start // across : right] = True
        best = min(_runs(needed), _rectangle(needed), key=_cost)
        if _cost(best) >= needed.size:
            return None
        return [
            (
                slice(top * down, min(end * down, self._shape[0])),
                slice(left * across, min(right * across, self._shape[1])),
            )
            for top, end, left, right in best
        ]


def _rectangle(needed: np.ndarray) -> list[Tiles]:
    """The one rectangle that holds all that is needed; nothing if nothing is."""
    rows, columns = (np.flatnonzero(needed.any(axis=axis)) for axis in (1, 0))
    return [(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)] if len(rows) else []


def _runs(needed: np.ndarray) -> list[Tiles]:
    """Rectangles of nothing but what is needed: runs along rows, equal rows together."""
    found: list[Tiles] = []
    first = 0
    for last in range(1, len(needed) + 1):
        if last == len(needed) or (needed[last] != needed[first]).any():
            edges = np.flatnonzero(np.diff(needed[first].astype(np.int8), prepend=0, append=0)).tolist()
            found += [(first, last, left, right) for left, right in zip(edges[::2], edges[1::2], strict=True)]
            first = last
    return found


def _cost(pieces: list[Tiles]) -> float:
    """Of reading them, in tiles of an image that is read whole."""
    return sum(PIECE_TILES + TILE_OF_PIECE * (end - top) * (right - left) for top, end, left, right in pieces)


def _span(centre: np.ndarray, size: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: where each square begins, and where it begins and ends on the image."""
    first = np.floor(centre - (size - 1) / 2 + 0.5).astype(np.int64)
    return first, np.clip(first, 0, length), np.clip(first + size, 0, length)
