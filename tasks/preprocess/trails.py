"""Straight lines across a stamp: satellites, bleeding columns, diffraction spikes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

ANGLES = 72
"""Directions that are tried, over half a turn."""

GRID = 50
"""The signal is averaged to about so many pixels a side first, so that a line has the same width at any stamp size."""

SAMPLES = 32
"""Points at which a line is read."""

SHORTEST = 0.75
"""Chords shorter than this share of the side cut a corner and are not tried."""

FLANK = 1 / 18
"""Distance of the two parallels that a line is compared with, share of the side."""

LOW_RANK = SAMPLES // 5
"""A line is as bright as the faintest fifth of it: a trail crosses the whole frame, an edge-on galaxy ends."""

MIDDLE_RANK = SAMPLES // 2
EVEN = 0.65
"""The faintest fifth of a trail, and each of its ends, has at least so much of its median; a galaxy on edge fades."""

HIGH_RANK = SAMPLES - 1 - SAMPLES // 5
EVEN_HIGH = 0.4
"""And so much of its brightest fifth; galaxies of a group that stand in a row have gaps between them."""

END = SAMPLES // 8


def measure_trails(signal: np.ndarray) -> np.ndarray:
    """How much the best line across each stamp stands out, in sigmas of the smoothed signal.

    Parameters
    ----------
    signal
        (n, H, W), in sigmas of its noise (see `measure_sources`).

    Returns
    -------
    ndarray
        (n,) float32: over all chords, the highest of (low quantile along the chord) - (the same of the
        brighter of its two parallels). Near zero or below where nothing straight crosses the frame.
    """
    factor = max(1, round(min(signal.shape[-2:]) / GRID))
    side = min(signal.shape[-2:]) // factor
    grid = (
        signal[:, : side * factor, : side * factor].reshape(len(signal), side, factor, side, factor).mean(axis=(2, 4))
    )
    flat = grid.reshape(len(grid), -1)
    flank = max(1, round(FLANK * side))
    best = np.full(len(grid), -np.inf)
    for chords in _chords(side):
        along = flat[:, chords]  # (n, offsets, samples)
        ends = np.minimum(np.median(along[..., :END], axis=-1), np.median(along[..., -END:], axis=-1))
        ranked = np.partition(along, (LOW_RANK, MIDDLE_RANK, HIGH_RANK), axis=-1)
        low, even = ranked[..., LOW_RANK], EVEN * ranked[..., MIDDLE_RANK]
        even = np.maximum(even, EVEN_HIGH * ranked[..., HIGH_RANK])
        parallels = np.maximum(low[:, : -2 * flank], low[:, 2 * flank :])
        excess = np.where((low >= even) & (ends >= even), low, 0)[:, flank:-flank] - parallels
        best = np.maximum(best, excess.max(axis=1))
    return best.astype(np.float32)


@lru_cache(maxsize=4)
def _chords(side: int) -> tuple[np.ndarray, ...]:
    """For each direction the flat pixel indices of its chords, (offsets, samples), one grid pixel apart."""
    half = (side - 1) / 2
    every = []
    for angle in np.arange(ANGLES) * np.pi / ANGLES:
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        chords = []
        for offset in np.arange(-side, side + 1):
            reach = _reach(offset * across, along, half)
            if reach is not None and reach[1] - reach[0] >= SHORTEST * side:
                points = offset * across + np.linspace(*reach, SAMPLES)[:, None] * along
                x, y = np.clip(np.round(points + half).astype(int), 0, side - 1).T
                chords.append(y * side + x)
        every.append(np.array(chords))
    return tuple(every)


def _reach(start: np.ndarray, along: np.ndarray, half: float) -> tuple[float, float] | None:
    """Where the line start + t along lies in the square of half side `half`, as the range of t."""
    low, high = -np.inf, np.inf
    for position, slope in zip(start, along, strict=True):
        if abs(slope) < 1e-9:
            if abs(position) > half:
                return None
            continue
        ends = sorted(((-half - position) / slope, (half - position) / slope))
        low, high = max(low, ends[0]), min(high, ends[1])
    return (low, high) if high > low else None
