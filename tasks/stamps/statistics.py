"""Sums per shard, merged in the order of shards, so that they do not depend on who wrote what when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.stamps.halves import to_single

BLOCK = 16
"""Stamps looked at together: as much as stays in the processor's cache."""


@dataclass(frozen=True)
class StampSums:
    """Sums over the pixels of each of some stamps, (n, C) float64.

    A stamp with pixels that are not finite has a `total` that is not.
    """

    pixels: int
    total: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    def by_band(self, valid: np.ndarray, bands: Sequence[str]) -> dict[str, dict[str, float]]:
        """Sums over the valid stamps, by band; empty if there are none."""
        if not valid.any():
            return {}
        return {
            band: {
                "pixels": float(valid.sum() * self.pixels),
                "sum": float(self.total[valid, channel].sum()),
                "squares": float(self.squares[valid, channel].sum()),
                "minimum": float(self.minimum[valid, channel].min()),
                "maximum": float(self.maximum[valid, channel].max()),
            }
            for channel, band in enumerate(bands)
        }


def stamp_sums(images: np.ndarray) -> StampSums:
    """Sums of each stamp of (n, C, H, W): pixels in single precision, which a stamp's number of them allows."""
    count, bands, height, width = images.shape
    found = [np.empty((count, bands)) for _ in range(4)]
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        block = to_single(images[part]).reshape(-1, bands, height * width)
        for array, values in zip(
            found,
            (block.sum(axis=2), np.einsum("ncp,ncp->nc", block, block), block.min(axis=2), block.max(axis=2)),
            strict=True,
        ):
            array[part] = values
    return StampSums(height * width, *found)


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
