"""What a model accepts, checked before a number is computed, and how a stamp becomes its input.

All models see RGB in 0..1: survey pictures as they are, fluxes through the survey's viewer
stretch, so that flux stamps and published pictures meet in one space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .photometry import viewer_rgb

UNITS = ("nanomaggy", "rgb")

SMALLEST_SIZE, LARGEST_SIZE, SIZE_STEP = 32, 512, 8
"""Sides of what a network sees, pixels."""


class InputError(ValueError):
    """Images that a model must not be asked about; the message names the value and the legal ones."""


def is_legal_size(side: int) -> bool:
    """Whether a network takes images of this side, pixels."""
    return SMALLEST_SIZE <= side <= LARGEST_SIZE and side % SIZE_STEP == 0


def near_sizes(side: int) -> list[int]:
    """The legal sides next to an illegal one, pixels: one or two."""
    around = (side // SIZE_STEP * SIZE_STEP, -(-side // SIZE_STEP) * SIZE_STEP)
    return sorted({min(max(size, SMALLEST_SIZE), LARGEST_SIZE) for size in around})


def explain_size(side: int) -> str:
    """For errors: which sides are legal, and the nearest to an illegal one."""
    near = near_sizes(side)
    return (
        f"sides must be multiples of {SIZE_STEP} px from {SMALLEST_SIZE} to {LARGEST_SIZE}; "
        f"nearest to {side} {'are' if len(near) > 1 else 'is'} {' and '.join(map(str, near))}"
    )


def centre(images: Tensor, side: int) -> Tensor:
    """The central (N, C, side, side) of (N, C, H, W)."""
    top, left = (images.shape[-2] - side) // 2, (images.shape[-1] - side) // 2
    return images[..., top : top + side, left : left + side]


@dataclass(frozen=True)
class InputSpec:
    """The geometry and units that a model was trained with.

    Attributes
    ----------
    bands
        Bands that fluxes must come in, in this order, such as (g, r, z).
    stamp_size
        Side of the stamps it was trained on, pixels; stamps of `crop` pixels are accepted too.
    crop
        Side of the central square that the model looks at, pixels.
    binning
        Pixels averaged along each side after crop and stretch; the network sees crop / binning, a multiple of 8 from
        32 to 512.
    pixel_scale
        Range of legal pixel scales, "/px.
    unknown_pixel_scale
        Whether a pixel scale of 0 (unknown) is accepted.

    Raises
    ------
    InputError
        If no network takes crop / binning; the message names the nearest that is taken.
    """

    bands: tuple[str, ...]
    stamp_size: int
    crop: int
    binning: int
    pixel_scale: tuple[float, float]
    unknown_pixel_scale: bool
    stretch: str = "viewer"

    def __post_init__(self) -> None:
        size = self.network_size
        if self.crop % self.binning or not is_legal_size(size):
            crops = " or ".join(str(near * self.binning) for near in near_sizes(size))
            raise InputError(
                f"crop {self.crop} px with binning {self.binning} shows the network {self.crop / self.binning:g} px; "
                f"{explain_size(size)}, so take a crop of {crops}"
            )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> InputSpec:
        """Rebuild from JSON, where tuples have become lists."""
        return cls(**{**content, "bands": tuple(content["bands"]), "pixel_scale": tuple(content["pixel_scale"])})

    @property
    def network_size(self) -> int:
        """Side of what the network sees, pixels."""
        return self.crop // self.binning

    def check(self, images: Any, units: str, pixel_scale: float) -> np.ndarray:
        """Refuse what the model was not made for.

        Parameters
        ----------
        images
            (N, C, H, W) float32; nanomaggies in the order of `bands`, or RGB in 0..1.
        units
            `nanomaggy` or `rgb`.
        pixel_scale
            "/px; 0 means unknown.

        Returns
        -------
        ndarray
            The images as (N, C, H, W) float32.

        Raises
        ------
        InputError
            Names the wrong value and the legal ones.
        """
        if units not in UNITS:
            given = "is not given" if units in ("", None) else f"is {units!r}"
            raise InputError(
                f"units {given}; give units='nanomaggy' (bands {'-'.join(self.bands)}) or units='rgb' (0..1)"
            )
        low, high = self.pixel_scale
        unknown = ", or 0 for unknown" if self.unknown_pixel_scale else ""
        legal_scale = f'{low:g} to {high:g} "/px{unknown}'
        if pixel_scale is None or not np.isfinite(pixel_scale) or pixel_scale < 0:
            raise InputError(f"pixel_scale is not given; legal are {legal_scale}")
        if pixel_scale == 0 and not self.unknown_pixel_scale:
            raise InputError(f"pixel_scale is 0 (unknown), which this model does not accept; legal are {legal_scale}")
        if pixel_scale != 0 and not low <= pixel_scale <= high:
            raise InputError(f'pixel_scale is {pixel_scale:g} "/px; legal are {legal_scale}')
        array = np.asarray(images)
        channels = 3 if units == "rgb" else len(self.bands)
        names = "R, G, B" if units == "rgb" else ", ".join(self.bands)
        if array.ndim != 4 or array.shape[1] != channels:
            raise InputError(f"images have shape {array.shape}; legal is (N, {channels}, H, W) with channels {names}")
        sizes = sorted({self.crop, self.stamp_size})
        if array.shape[2] != array.shape[3] or array.shape[2] not in sizes:
            raise InputError(f"images are {array.shape[2]} x {array.shape[3]} px; legal squares are {sizes} px")
        if array.dtype != np.float32:
            raise InputError(f"images are {array.dtype}; legal is float32")
        bad = ~np.isfinite(array).all(axis=(1, 2, 3))
        if bad.any():
            raise InputError(
                f"image {int(np.argmax(bad))} has NaN or infinite pixels; replace or leave out {int(bad.sum())}"
            )
        if units == "rgb" and array.size and (array.min() < -1e-3 or array.max() > 1 + 1e-3):
            raise InputError(f"rgb values run from {array.min():g} to {array.max():g}; legal is 0 to 1")
        return array

    def to_network(self, images: Tensor, units: str) -> Tensor:
        """Crop, stretch and bin.

        Parameters
        ----------
        images
            (N, C, H, W): nanomaggies in the order of `bands`, or RGB as uint8 0..255 or float 0..1.

        Returns
        -------
        Tensor
            (N, 3, crop / binning, crop / binning) float32 RGB in 0..1.
        """
        return self.bin(self.to_rgb(self.crop_centre(images), units))

    def fluxes(self, images: Tensor, units: str) -> Tensor | None:
        """The central (N, C, crop, crop) of nanomaggies; None of pictures, which have no fluxes."""
        return self.crop_centre(images) if units == "nanomaggy" else None

    def crop_centre(self, images: Tensor) -> Tensor:
        """The central (N, C, crop, crop)."""
        return centre(images, self.crop)

    def to_rgb(self, images: Tensor, units: str) -> Tensor:
        """RGB in 0..1, float32, of the same height and width."""
        if units == "nanomaggy":
            return viewer_rgb(images.float(), self.bands)
        if images.dtype == torch.uint8:
            return images.float() / 255
        return images.float()

    def bin(self, rgb: Tensor) -> Tensor:
        """Average squares of `binning` pixels."""
        return rgb if self.binning == 1 else functional.avg_pool2d(rgb, self.binning)
