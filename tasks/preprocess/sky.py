"""The background of a stamp: its level, its noise, and how much of the frame there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOXES_A_SIDE = 19
"""The frame is cut into about so many boxes a side; a stamp of 152 px gets boxes of 8 px."""

SMALLEST_BOX = 4
"""Pixels; a smaller box has no median to speak of."""

SIGMA_OF_MAD = 1.482602218505602
"""Standard deviation of a Gaussian over its median absolute deviation."""

CLIPPED_SIGMA = 0.98658
"""Standard deviation of a unit Gaussian cut at 3 sigma."""

QUANTISATION = 1 / np.sqrt(12)
"""Noise that rounding to whole numbers adds to a picture of 0..255; without it a black sky has none at all."""

LEAST_KNOWN = 0.9
"""A box of which less than this share has data tells nothing of the sky."""

CLIPPING_ROUNDS = 4
AGREEMENT = 0.5
"""Boxes agree with the sky's level within so many sigmas of a pixel."""


@dataclass(frozen=True)
class Sky:
    """The background of n stamps with C bands.

    Attributes
    ----------
    level
        (n, C) float32, the sky's level, unit of the pixels.
    noise
        (n, C) float32, standard deviation of a pixel, unit of the pixels.
    coverage
        (n,) float32, share of pixels that have data in every band.
    medians
        (n, C, m) float32, median of each box along the border, clockwise, unit of the pixels; NaN where the box has
        too little data.
    """

    level: np.ndarray
    noise: np.ndarray
    coverage: np.ndarray
    medians: np.ndarray


def measure_sky(images: np.ndarray, quantised: bool, invvar: np.ndarray | None = None) -> Sky:
    """Level and noise of the background, from boxes along the border of the frame.

    The noise is the median over border boxes of the box's own scatter (1.4826 MAD), so that neither
    a source in some boxes nor a slope across the frame counts as noise. Light only adds, hence the
    level: the mean of the medians of those boxes that agree with the lower quartile of them.

    Parameters
    ----------
    images
        (n, C, H, W); what has no data (see `pixels_with_data`) is taken as zero, and boxes of it are left out.
    quantised
        Whether pixels are whole numbers, as in a picture. A dark sky in a picture is rightly zero here and there, so
        that there all boxes count, and missing are pixels that are zero in all bands.
    invvar
        (n, C, H, W) inverse variance where the survey gives it.
    """
    pixels = np.where(np.isfinite(images), images, 0).astype(np.float32)
    border = border_of(cut_boxes(pixels))
    if quantised:
        coverage, known = (pixels != 0).any(axis=1).mean(axis=(1, 2)), np.ones(border.shape[:-1], bool)
    else:
        data = pixels_with_data(images, invvar)
        coverage, known = data.all(axis=1).mean(axis=(1, 2)), boxes_with_data(data)
    noise = quantile_of(scatter(border, QUANTISATION if quantised else 0.0), known, 0.5)
    medians = np.where(known, np.median(border, axis=-1), np.nan)
    return Sky(
        level=_lower_level(medians, noise).astype(np.float32),
        noise=noise.astype(np.float32),
        coverage=coverage.astype(np.float32),
        medians=medians.astype(np.float32),
    )


def pixels_with_data(images: np.ndarray, invvar: np.ndarray | None = None) -> np.ndarray:
    """(n, C, H, W) bool: finite, and with an inverse variance above zero.

    Where a stamp has no inverse variance at all, a flux of exactly zero means no data: surveys fill gaps so.
    """
    data = np.isfinite(images)
    if invvar is None:
        return np.asarray(data & (images != 0))
    weighed = (invvar > 0).any(axis=(1, 2, 3), keepdims=True)
    return np.asarray(data & np.where(weighed, invvar > 0, images != 0))


def boxes_with_data(data: np.ndarray) -> np.ndarray:
    """(n, C, m) bool: which boxes along the border have enough data to tell of the sky; of (n, C, H, W) bool."""
    return np.asarray(border_of(cut_boxes(data)).mean(axis=-1) >= LEAST_KNOWN)


def quantile_of(values: np.ndarray, known: np.ndarray, share: float) -> np.ndarray:
    """As `numpy.quantile` over the last axis, of the known values alone; 0 where none is."""
    ranked = np.sort(np.where(known, values, np.inf), axis=-1)
    place = share * np.maximum(known.sum(axis=-1, keepdims=True) - 1, 0)
    low, high = (np.take_along_axis(ranked, end(place).astype(np.int64), axis=-1) for end in (np.floor, np.ceil))
    with np.errstate(invalid="ignore"):
        value = (low + (high - low) * (place - np.floor(place)))[..., 0]
    return np.where(known.any(axis=-1), value, 0)


def cut_boxes(pixels: np.ndarray) -> np.ndarray:
    """Cut (..., H, W) into k x k boxes of b x b pixels: (..., k, k, b * b); left-over edges are dropped."""
    side = min(pixels.shape[-2:])
    box = max(SMALLEST_BOX, side // BOXES_A_SIDE)
    count = side // box
    top, left = (pixels.shape[-2] - count * box) // 2, (pixels.shape[-1] - count * box) // 2
    frame = pixels[..., top : top + count * box, left : left + count * box]
    cut = frame.reshape(*pixels.shape[:-2], count, box, count, box)
    return np.moveaxis(cut, -3, -2).reshape(*pixels.shape[:-2], count, count, box * box)


def border_of(boxes: np.ndarray) -> np.ndarray:
    """(..., m, b * b) boxes along the border of (..., k, k, b * b), clockwise, neighbours in order."""
    sides = [boxes[..., 0, :-1, :], boxes[..., :-1, -1, :], boxes[..., -1, :0:-1, :], boxes[..., :0:-1, 0, :]]
    return np.concatenate(sides, axis=-2)


def scatter(boxes: np.ndarray, least: float = 0.0) -> np.ndarray:
    """(...) standard deviation of the pixels of each box (..., b * b), clipped at 3 sigma of the MAD, at least `least`.

    The MAD alone comes in steps where pixels are whole numbers; it only says what to clip. The result is
    scaled so that its median over boxes of Gaussian noise is right for boxes of few pixels too: a sample's
    variance has a chi-squared distribution, whose median is (1 - 2 / 9k)^3 of its mean (Wilson & Hilferty 1931).
    """
    away = np.abs(boxes - np.median(boxes, axis=-1, keepdims=True))
    limit = 3 * np.maximum(SIGMA_OF_MAD * np.median(away, axis=-1, keepdims=True), least)
    kept = away <= limit
    variance = (away**2 * kept).sum(axis=-1) / kept.sum(axis=-1)
    freedom = boxes.shape[-1] - 1
    of_median = freedom / (freedom + 1) * (1 - 2 / (9 * freedom)) ** 3
    return np.asarray(np.maximum(np.sqrt(variance / of_median) / CLIPPED_SIGMA, least))


def _lower_level(medians: np.ndarray, noise: np.ndarray) -> np.ndarray:
    # Noise alone scatters a box's median by 0.16 sigma (64 pixels), so half a sigma keeps the boxes
    # of empty sky and drops those with light in them.
    level = quantile_of(medians, np.isfinite(medians), 0.25)[..., None]
    for _ in range(CLIPPING_ROUNDS):
        agree = np.abs(medians - level) <= AGREEMENT * noise[..., None]
        kept = agree.sum(axis=-1, keepdims=True)
        total = np.where(agree, medians, 0).sum(axis=-1, keepdims=True)
        level = np.where(kept > 0, total / np.maximum(kept, 1), level)
    return level[..., 0]
