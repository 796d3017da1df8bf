"""What a shard's stamps measure: one row of numbers per stamp."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tasks.preprocess.background import measure_background, noise_over_errors
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
"""Measures that a stamp has besides those of each band and `pixel_hash`."""

OF_BAND = ("sky", "noise", "background", "gradient")
"""Measures of each band, as `<name>_<band>`; with inverse variances there is `noise_over_errors` too."""

OVER_ERRORS = "noise_over_errors"


def measure_stamps(
    images: np.ndarray, units: str, bands: Sequence[str], invvar: np.ndarray | None = None
) -> pd.DataFrame:
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
    invvar
        (n, C, H, W) float32 inverse variances, where the survey gives them; all zero for a stamp that has none.

    Returns
    -------
    DataFrame
        n rows: `sky_<b>`, `noise_<b>` (see `Sky`); `background_<b>`, `gradient_<b>` (see `measure_background`; the
        sky of a picture is not meant to be zero, so it has a gradient alone); with `invvar` also
        `noise_over_errors_<b>`; the `NAMES` (see `Sky`, `Sources`, `measure_profile`, `measure_trails`;
        `saturation` is the share of pixels at the ceiling in any band) and `pixel_hash`.
    """
    if not len(images):  # one blank stamp tells the columns and their types
        shape = (1, *images.shape[1:])
        weight = None if invvar is None else np.zeros(shape, np.float32)
        return _measure(np.zeros(shape, images.dtype), weight, units, bands).iloc[:0]
    batches = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
    return pd.concat(
        [_measure(images[batch], None if invvar is None else invvar[batch], units, bands) for batch in batches],
        ignore_index=True,
    )


def _measure(images: np.ndarray, invvar: np.ndarray | None, units: str, bands: Sequence[str]) -> pd.DataFrame:
    quantised = units == "rgb"
    sky = measure_sky(images, quantised, invvar)
    offset, gradient = measure_background(sky, min(images.shape[-2:]))
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
    of_band = {
        "sky": sky.level,
        "noise": sky.noise,
        "background": np.full_like(offset, np.nan) if quantised else offset,
        "gradient": gradient,
    }
    if invvar is not None:
        of_band[OVER_ERRORS] = noise_over_errors(images, invvar)
    columns = {f"{name}_{band}": of_band[name][:, index] for index, band in enumerate(bands) for name in of_band}
    for name in NAMES:
        columns[name] = values[name] if name in values else getattr(sources, name)
    table = pd.DataFrame(columns)
    table["pixel_hash"] = [pixel_hash(image) for image in images]
    return table


def pixel_hash(image: np.ndarray) -> str:
    """128-bit hash (hex) of a stamp's raw pixels: equal only for identical ones."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()
