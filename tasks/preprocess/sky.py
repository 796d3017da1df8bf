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
        (n,) float32, share of pixels that are finite and not zero in every band.
    """

    level: np.ndarray
    noise: np.ndarray
    coverage: np.ndarray


def measure_sky(images: np.ndarray, quantised: bool) -> Sky:
    """Level and noise of the background, from boxes along the border of the frame.

    The noise is the median over border boxes of the box's own scatter (1.4826 MAD), so that neither
    a source in some boxes nor a slope across the frame counts as noise. Light only adds, hence the
    level: the mean of the medians of those boxes that agree with the lower quartile of them.

    Parameters
    ----------
    images
        (n, C, H, W); pixels that are not finite count as missing and are taken as zero.
    quantised
        Whether pixels are whole numbers, as in a picture.
    """
    finite = np.isfinite(images)
    pixels = np.where(finite, images, 0).astype(np.float32)
    coverage = (finite & (pixels != 0)).all(axis=1).mean(axis=(1, 2)) if not quantised else _display_coverage(pixels)
    border = border_of(cut_boxes(pixels))
    noise = np.median(scatter(border, QUANTISATION if quantised else 0.0), axis=-1)
    level = _lower_level(np.median(border, axis=-1), noise)
    return Sky(
        level=level.astype(np.float32),
        noise=noise.astype(np.float32),
        coverage=coverage.astype(np.float32),
    )


def cut_boxes(pixels: np.ndarray) -> np.ndarray:
    """Cut (..., H, W) into k x k boxes of b x b pixels: (..., k, k, b * b); left-over edges are dropped."""
    side = min(pixels.shape[-2:])
    box = max(SMALLEST_BOX, side // BOXES_A_SIDE)
    count = side // box
    top, left = (pixels.shape[-2] - count * box) // 2, (pixels.shape[-1] - count * box) // 2
    frame = pixels[..., top : top + count * box, left : left + count * box]
    cut = frame.reshape(*pixels.shape[:-2], count, box, count, box)
    return np.moveaxis(cut, -3, -2).reshape(*pixels.shape[:-2], count, count, box * box)


def _display_coverage(pixels: np.ndarray) -> np.ndarray:
    """In a picture a dark sky is rightly zero here and there; missing are pixels that are zero in all bands."""
    return (pixels != 0).any(axis=1).mean(axis=(1, 2))


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
    level = np.quantile(medians, 0.25, axis=-1, keepdims=True)
    for _ in range(CLIPPING_ROUNDS):
        agree = np.abs(medians - level) <= AGREEMENT * noise[..., None]
        kept = agree.sum(axis=-1, keepdims=True)
        level = np.where(kept > 0, (medians * agree).sum(axis=-1, keepdims=True) / np.maximum(kept, 1), level)
    return level[..., 0]
