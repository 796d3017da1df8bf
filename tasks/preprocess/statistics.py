"""Statistics of the train split's pixels, exact and the same however the work was cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.preprocess.measure import OF_BAND

PERCENTILES = (0.1, 1, 5, 25, 50, 75, 95, 99, 99.9)


def pixel_counts(images: np.ndarray) -> np.ndarray:
    """(C, V) int64: how often each possible value occurs in each band of (n, C, H, W) uint8 or float16.

    A value's place is its bit pattern: 256 of them, or 65,536. Counts add up over shards exactly.
    """
    patterns = images if images.dtype == np.uint8 else images.astype(np.float16, copy=False).view(np.uint16)
    values = 256 if images.dtype == np.uint8 else 65536
    return np.stack([np.bincount(patterns[:, band].ravel(), minlength=values) for band in range(images.shape[1])])


def band_statistics(counts: np.ndarray, bands: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Mean, sigma and percentiles of each band from counts (C, V), unit of the pixels; not-finite ones are left out."""
    size = counts.shape[1]
    values = np.arange(256.0) if size == 256 else np.arange(size, dtype=np.uint16).view(np.float16).astype(np.float64)
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    values, counts = values[finite][order], counts[:, finite][:, order]
    result: dict[str, dict[str, Any]] = {}
    for band, count in zip(bands, counts, strict=True):
        pixels = int(count.sum())
        if pixels == 0:
            result[band] = {"pixels": 0}
            continue
        mean = float((values * count).sum() / pixels)
        sigma = float(np.sqrt((count * (values - mean) ** 2).sum() / pixels))
        places = np.searchsorted(np.cumsum(count), np.array(PERCENTILES) / 100 * pixels)
        percentiles = values[np.minimum(places, len(values) - 1)]
        result[band] = {
            "pixels": pixels,
            "mean": mean,
            "sigma": sigma,
            "percentiles": {f"{p:g}": float(v) for p, v in zip(PERCENTILES, percentiles, strict=True)},
        }
    return result


def train_statistics(counts: Mapping[str, np.ndarray], train: pd.DataFrame, bands: Sequence[str]) -> dict[str, Any]:
    """Statistics of the usable train stamps, by source and of all together.

    Parameters
    ----------
    counts
        Source to pixel counts (C, V).
    train
        Rows of the usable train stamps with `source`, `sky_<b>`, `noise_<b>`, `background_<b>`, `gradient_<b>`, `snr`.

    Returns
    -------
    dict
        `sources` and `all`: each with `stamps`, and by band `mean`, `sigma`, `percentiles`, `pixels`, and the medians
        over stamps of `sky`, `noise`, `background` and `gradient`, None where unknown. JSON values.
    """
    statistics: dict[str, Any] = {"split": "train", "sources": {}}
    for source in sorted(counts):
        statistics["sources"][source] = _describe(counts[source], train[train["source"] == source], bands)
    total = np.asarray(sum(counts.values()))
    statistics["all"] = _describe(total, train, bands)
    return statistics


def _describe(counts: np.ndarray, stamps: pd.DataFrame, bands: Sequence[str]) -> dict[str, Any]:
    by_band = band_statistics(counts, bands)
    for band in bands:
        by_band[band] |= {name: _median(stamps[f"{name}_{band}"]) for name in OF_BAND}
    return {"stamps": len(stamps), "snr": _median(stamps["snr"]), "bands": by_band}


def _median(values: pd.Series) -> float | None:
    return float(values.median()) if values.notna().any() else None
