"""How raw stamps become what models see: crop, cast and stretch as numbers, for readers that have nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from galaxy_models.photometry import (
    VIEWER_GAIN_WITH_I,
    VIEWER_Q,
    VIEWER_SCALES,
    VIEWER_SOFTENING,
)
from infra.errors import GalaxyError
from tasks.stamps.dataset import StampDataset

CROP_STEP = 32
"""Networks halve the frame five times, so they see a multiple of this."""

WHITE = 255
"""Display value that becomes 1."""

DARKEST = 1e-6
"""Intensity that stands for zero, since the stretch divides by it."""


def reading_of(dataset: StampDataset) -> dict[str, Any]:
    """The recipe for a dataset's stamps, as JSON values.

    Returns
    -------
    dict
        `units`, `bands`, `stamp_size` and `dtype` of the raw stamps; `crop`, the side of the central square, the
        largest that fits; `cast`, the type to compute in; `stretch`, its `name` and numbers:

        - `viewer` for fluxes: with F_b the flux, s_b of `scales`, m `softening` and Q `q`, I is the mean over bands of
          max(0, s_b F_b + m), and a channel is (s_b F_b + m) asinh(Q I) / (sqrt(Q) I), cut at 0 and 1; `channels` names
          the bands of R, G, B. An I of 0 counts as `darkest`.
        - `linear` for pictures: the value over `white`.

    Notes
    -----
    A model may look at less: its card tells its own crop, and how many pixels it averages after the stretch.
    """
    crop = dataset.stamp_size // CROP_STEP * CROP_STEP or dataset.stamp_size
    return {
        "units": dataset.units,
        "bands": list(dataset.bands),
        "stamp_size": dataset.stamp_size,
        "dtype": "uint8" if dataset.units == "rgb" else "float16",
        "crop": crop,
        "cast": "float32",
        "stretch": {"name": "linear", "white": WHITE} if dataset.units == "rgb" else _viewer(dataset),
    }


def model_input(images: np.ndarray, reading: Mapping[str, Any]) -> np.ndarray:
    """Raw stamps as models see them, by what was recorded alone.

    Parameters
    ----------
    images
        (n, C, H, W) raw stamps.
    reading
        As from `reading_of`; `prepared.json` keeps it under `reading`.

    Returns
    -------
    ndarray
        (n, 3, crop, crop) float32, R, G, B in 0..1.

    Raises
    ------
    GalaxyError
        If the stretch is none that this code knows.
    """
    crop, stretch = reading["crop"], reading["stretch"]
    top, left = (images.shape[-2] - crop) // 2, (images.shape[-1] - crop) // 2
    pixels = images[..., top : top + crop, left : left + crop].astype(reading["cast"])
    if stretch["name"] == "linear":
        return np.asarray(pixels / np.float32(stretch["white"]))
    if stretch["name"] != "viewer":
        raise GalaxyError(f"the stretch {stretch['name']!r} is unknown; this code knows `viewer` and `linear`")
    scaled = pixels * np.array(stretch["scales"], np.float32)[:, None, None] + np.float32(stretch["softening"])
    intensity = np.maximum(scaled, 0).mean(axis=1, keepdims=True)
    intensity[intensity == 0] = stretch["darkest"]
    q = np.float32(stretch["q"])
    colours = np.clip(scaled * (np.arcsinh(q * intensity) / (np.sqrt(q) * intensity)), 0, 1)
    return np.asarray(colours[:, [reading["bands"].index(band) for band in stretch["channels"]]])


def _viewer(dataset: StampDataset) -> dict[str, Any]:
    unknown = [band for band in dataset.bands if band not in VIEWER_SCALES]
    if unknown or len(dataset.bands) != 3:
        raise GalaxyError(
            f"{dataset.root} has the bands {', '.join(dataset.bands)}; models take fluxes in three of "
            f"{', '.join(VIEWER_SCALES)}: choose them as the survey's `bands`"
        )
    gain = VIEWER_GAIN_WITH_I if "i" in dataset.bands else 1.0
    return {
        "name": "viewer",
        "scales": [gain * VIEWER_SCALES[band] for band in dataset.bands],
        "softening": VIEWER_SOFTENING,
        "q": VIEWER_Q,
        "darkest": DARKEST,
        "channels": list(reversed(dataset.bands)),
    }
