"""What a shard's stamps measure: one row of numbers per stamp."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tasks.preprocess.profile_shape import measure_profile
from tasks.preprocess.sky import measure_sky
from tasks.preprocess.sources import measure_sources
from tasks.preprocess.trails import measure_trails

CEILING_DISPLAY = 250
"""Display values from here on are saturated: white, or the pure colour of a channel at its end."""

CEILING_NANOMAGGY = 100.0
"""nanomaggy per pixel: the peak of a star of magnitude 14 at a seeing of 1.3", which fills the surveys' detectors."""

BATCH = 64
"""Stamps that are worked on at once: a few dozen MB of temporary arrays, whatever the shard's size."""

NAMES = (
    "coverage",
    "saturation",
    "snr",
    "peak",
    "area",
    "half_light_radius",
    "half_peak_radius",
    "falloff",
    "concentration",
    "elongation",
    "offset",
    "outshone",
    "bright_segments",
    "bright_area",
    "trail",
)
"""Measures that a stamp has besides `sky_<band>`, `noise_<band>` and `pixel_hash`."""


def measure_stamps(images: np.ndarray, units: str, bands: Sequence[str]) -> pd.DataFrame:
    """Measure stamps.

    Parameters
    ----------
    images
        (n, C, H, W) raw: float16 nanomaggies per pixel, or uint8 display values.
    units
        `nanomaggy` or `rgb`; in pictures every measure is in display space: sky and noise in steps of 0..255,
        S/N, radii and areas of the stretched image.
    bands
        The C bands, for the columns' names.

    Returns
    -------
    DataFrame
        n rows: `sky_<b>`, `noise_<b>`, the `NAMES` (see `Sky`, `Sources`, `measure_profile`, `measure_trails`;
        `saturation` is the share of pixels at the ceiling in any band) and `pixel_hash`.
    """
    if not len(images):  # one blank stamp tells the columns and their types
        return _measure(np.zeros((1, *images.shape[1:]), images.dtype), units, bands).iloc[:0]
    pieces = [_measure(images[start : start + BATCH], units, bands) for start in range(0, len(images), BATCH)]
    return pd.concat(pieces, ignore_index=True)


def _measure(images: np.ndarray, units: str, bands: Sequence[str]) -> pd.DataFrame:
    quantised = units == "rgb"
    sky = measure_sky(images, quantised)
    sources = measure_sources(images, sky)
    half_peak_radius, falloff = measure_profile(images, sky, quantised)
    with np.errstate(invalid="ignore"):
        ceiling = images >= (CEILING_DISPLAY if quantised else CEILING_NANOMAGGY)
    values = {
        "coverage": sky.coverage,
        "saturation": ceiling.any(axis=1).mean(axis=(1, 2)).astype(np.float32),
        "half_peak_radius": half_peak_radius,
        "falloff": falloff,
        "trail": measure_trails(sources.signal),
    }
    columns: dict[str, np.ndarray] = {}
    for index, band in enumerate(bands):
        columns[f"sky_{band}"] = sky.level[:, index]
        columns[f"noise_{band}"] = sky.noise[:, index]
    for name in NAMES:
        columns[name] = values[name] if name in values else getattr(sources, name)
    table = pd.DataFrame(columns)
    table["pixel_hash"] = [pixel_hash(image) for image in images]
    return table


def pixel_hash(image: np.ndarray) -> str:
    """128-bit hash (hex) of a stamp's raw pixels: equal only for identical ones."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()
