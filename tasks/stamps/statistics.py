"""Sums per shard, merged in the order of shards, so that they do not depend on who wrote what when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tasks.stamps.halves import to_single

BLOCK = 16
"""Stamps looked at together: as much as stays in the processor's cache."""


def sums(images: np.ndarray, valid: np.ndarray, bands: Sequence[str]) -> dict[str, dict[str, float]]:
    """Sums over the pixels of the valid stamps among (n, C, H, W), by band; empty if there are none."""
    rows = np.flatnonzero(valid)
    if len(rows) == 0:
        return {}
    size = images.shape[2] * images.shape[3]
    totals = np.zeros((2, len(bands)))
    lowest, highest = np.full(len(bands), np.inf), np.full(len(bands), -np.inf)
    for start in range(0, len(rows), BLOCK):
        block = to_single(images[rows[start : start + BLOCK]]).reshape(-1, len(bands), size)
        totals[0] += block.sum(axis=2).sum(axis=0, dtype=np.float64)  # a stamp in single precision, all in double
        totals[1] += np.einsum("ncp,ncp->nc", block, block).sum(axis=0, dtype=np.float64)
        lowest = np.minimum(lowest, block.min(axis=(0, 2)))
        highest = np.maximum(highest, block.max(axis=(0, 2)))
    return {
        band: {
            "pixels": float(len(rows) * size),
            "sum": float(totals[0, channel]),
            "squares": float(totals[1, channel]),
            "minimum": float(lowest[channel]),
            "maximum": float(highest[channel]),
        }
        for channel, band in enumerate(bands)
    }


def merge(shards: Iterable[dict[str, Any]], bands: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and range by band, from the sums of all shards in order."""
    shards = [shard for shard in shards if shard]
    if not shards:
        return {}
    result = {}
    for band in bands:
        pixels = sum(shard[band]["pixels"] for shard in shards)
        mean = sum(shard[band]["sum"] for shard in shards) / pixels
        variance = sum(shard[band]["squares"] for shard in shards) / pixels - mean**2
        result[band] = {
            "mean": mean,
            "standard_deviation": max(variance, 0.0) ** 0.5,
            "minimum": min(shard[band]["minimum"] for shard in shards),
            "maximum": max(shard[band]["maximum"] for shard in shards),
        }
    return result
