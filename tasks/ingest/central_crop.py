"""The middle of a published flux image at its own pixel scale: what a stamp is cut from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.ingest.resample import central_box
from tasks.stamps.stamp import Refusal, Stamp

LARGEST_FLUX = np.finfo(np.float16).max
"""Nanomaggies a pixel that the store can hold."""


def central_stamp(
    planes: np.ndarray, size: int, name: str, columns: dict[str, Any], invvar: np.ndarray | None = None
) -> Stamp | Refusal:
    """The stamp in the middle of fluxes (C, H, W), nanomaggies per pixel, or the reason why there is none.

    Surveys fill places that they never exposed with zeros, so a stamp of nothing else has no coverage; `coverage`,
    the share of pixels that all bands have, goes into the catalogue.

    Parameters
    ----------
    name
        How the answer calls the image.
    columns
        What else is known of the object.
    invvar
        (C, H, W) inverse variance, 1 / nanomaggy^2.
    """
    height, width = planes.shape[1:]
    if min(height, width) < size:
        return Refusal("image too small", detail=f"{name} has {width} x {height} px, a stamp {size}")
    left, top, right, bottom = central_box(width, height, size)
    image = np.asarray(planes[:, top:bottom, left:right], np.float32)
    exposed = np.isfinite(image) & (image != 0)
    coverage = float(exposed.all(axis=0).mean())
    if not exposed.any():
        return Refusal("no coverage", state="no_coverage", detail=name)
    storable = np.abs(image) <= LARGEST_FLUX
    if not storable.all():
        wrong = int((~storable).sum())
        return Refusal("pixels without a value", detail=f"{name}: {wrong} pixels are no number, or beyond 65504")
    weight = None
    if invvar is not None:
        weight = np.ascontiguousarray(invvar[:, top:bottom, left:right], np.float32)
        weight = np.where(np.isfinite(weight) & (weight > 0), weight, np.float32(0))
    return Stamp(image.astype(np.float16), {**columns, "coverage": coverage}, weight)
