"""Stamps out of one large image, all together."""

from __future__ import annotations

import numpy as np


class Cut:
    """Squares of an image, and the rectangle of it that they need.

    A square's middle is the nearest place to an object that whole pixels allow: at most half a pixel off along each
    axis. Nothing is resampled.

    Attributes
    ----------
    rows, columns
        The rectangle that all squares together need; it may be empty.
    overlap
        (n,) share of each square that lies on the image.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, size: int, shape: tuple[int, int]) -> None:
        """Squares of `size` pixels around (n,) centres x, y, the centre of the first pixel of the image being 0."""
        self.rows, bottom, low, high = _span(y, size, shape[0])
        self.columns, edge, left, right = _span(x, size, shape[1])
        self.overlap = (high - low) * (right - left) / size**2
        self._squares = np.stack([low, high, left, right, low - bottom, left - edge], axis=1).tolist()

    def into(self, out: np.ndarray, image: np.ndarray) -> None:
        """Put the squares of `image`, the rectangle, into `out` (n, size, size), which is left as it is beyond it.

        A slice a square: measured to be a quarter faster than one index array for all.
        """
        down, across = self.rows.start, self.columns.start
        for square, (low, high, left, right, y, x) in zip(out, self._squares, strict=True):
            piece = image[low - down : high - down, left - across : right - across]
            square[y : y + high - low, x : x + right - left] = piece


def _span(centre: np.ndarray, size: int, length: int) -> tuple[slice, np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis: what all squares need of the image; where each begins, and where it begins and ends on it."""
    first = np.floor(centre - (size - 1) / 2 + 0.5).astype(np.int64)
    begin, end = np.clip(first, 0, length), np.clip(first + size, 0, length)
    used = end > begin
    start = int(begin[used].min(initial=length))
    return slice(start, max(start, int(end[used].max(initial=0)))), first, begin, end
