"""A stamp as the picture that a browser shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.preprocess.gallery import stamp_pictures

QUALITY = 92
"""Of the JPEG; no ring around a bright core is to be seen."""


@dataclass(frozen=True)
class Stretch:
    """How brightness is shown.

    Attributes
    ----------
    gain
        Fluxes are multiplied by it before the viewer's stretch.
    gamma
        Power that displayed values of 0..1 are raised to, for pictures, which have no fluxes any more.
    """

    title: str
    gain: float = 1.0
    gamma: float = 1.0
    inverted_grey: bool = False


STRETCHES = {
    "viewer": Stretch("as in the sky viewer"),
    "faint": Stretch("faint light", gain=5.0, gamma=0.5),
    "cores": Stretch("bright cores", gain=0.2, gamma=1.8),
    "negative": Stretch("negative", gain=2.0, gamma=0.7, inverted_grey=True),
}


def show(pixels: NDArray[np.generic], units: str, bands: Sequence[str], stretch: Stretch) -> NDArray[np.uint8]:
    """(H, W, 3) of a raw stamp (C, H, W), in the store's units."""
    if units == "rgb":
        picture = stamp_pictures(pixels[None], units, bands)[0] ** stretch.gamma
    else:
        picture = stamp_pictures(pixels[None].astype(np.float32) * stretch.gain, units, bands)[0]
    if stretch.inverted_grey:
        picture = np.repeat(1 - picture.mean(axis=0, keepdims=True), 3, axis=0)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def as_jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A JPEG of (H, W, 3), its colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
