"""From an image of any shape to a stamp: the central square, resampled with anti-aliasing."""

from __future__ import annotations

import numpy as np
from PIL import Image


def kept_side(width: int, height: int, keep: float) -> int:
    """Side of the central square, pixels: a share of the shorter side, as even or odd as that side."""
    shorter = min(width, height)
    side = max(1, round(shorter * keep))
    return side if (shorter - side) % 2 == 0 or side == shorter else side + 1


def central_box(width: int, height: int, side: int) -> tuple[int, int, int, int]:
    """The central square as (left, top, right, bottom)."""
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def picture_stamp(picture: Image.Image, keep: float, size: int) -> np.ndarray:
    """A stamp (3, size, size) uint8 of an RGB picture; Lanczos, whose support grows as the picture shrinks."""
    side = kept_side(*picture.size, keep)
    box = central_box(*picture.size, side)
    stamp = picture.crop(box) if side == size else picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    return np.ascontiguousarray(np.asarray(stamp, np.uint8).transpose(2, 0, 1))


def flux_stamp(planes: np.ndarray, keep: float, size: int) -> np.ndarray:
    """A stamp (C, size, size) float32 of fluxes per pixel (C, H, W).

    A pixel of the stamp holds the flux that falls on it: resampling keeps the surface brightness,
    and the factor (side / size)^2 turns it into flux per new pixel, so that fluxes add up to the same.
    """
    height, width = planes.shape[1:]
    side = kept_side(width, height, keep)
    left, top, right, bottom = central_box(width, height, side)
    cut = np.asarray(planes[:, top:bottom, left:right], np.float32)
    if side == size:
        return np.ascontiguousarray(cut)
    resized = [
        # a triangle has no negative lobes, so that a star gets no dark ring of negative flux
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR), np.float32)
        for plane in cut
    ]
    return np.stack(resized) * np.float32((side / size) ** 2)
