"""Sums per shard, merged in the order of shards, so that they do not depend on who wrote what when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def sums(images: np.ndarray, bands: Sequence[str]) -> dict[str, dict[str, float]]:
    """Sums over the pixels of valid stamps (n, C, H, W), by band; empty if n is 0."""
    if len(images) == 0:
        return {}
    result = {}
    for channel, band in enumerate(bands):
        values = images[:, channel].astype(np.float64)
        result[band] = {
            "pixels": float(values.size),
            "sum": float(values.sum()),
            "squares": float(np.square(values).sum()),
            "minimum": float(values.min()),
            "maximum": float(values.max()),
        }
    return result


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
