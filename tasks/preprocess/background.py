"""What the survey left of the sky: how far a stamp's background is from zero, and how steep it is."""

from __future__ import annotations

import numpy as np

from tasks.preprocess.sky import AGREEMENT, Sky, border_of, boxes_with_data, cut_boxes, quantile_of, scatter

ROUNDS = 6
"""The boxes that agree with the last plane fix the next one, so often."""

SCATTER_OF_MEDIAN = 1.2533
"""Standard deviation of a median of m pixels, times sqrt(m), in sigmas of a pixel."""

STIFFNESS = 1e-3
"""A slope that no boxes fix stays zero: so much, times the number of boxes, is added to its normal equations."""


def measure_background(sky: Sky, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Residual background of stamps, in units of their noise.

    A plane is fitted to the medians of the boxes along the border of the frame. Light only adds, so the fit begins low,
    at the quartile of the medians, and boxes that differ from the plane by more than half a sigma of a pixel (or three
    sigmas of a median, where boxes are small) are left out of the next round: sources cover some boxes, the sky all
    of them. It begins twice, flat and with the slope between opposite sides, and the plane that more boxes agree with
    is taken. Where a galaxy is larger than the frame its outskirts are part of the result; no stamp by itself can
    tell the two apart.

    An aperture of m pixels collects m times the offset, against a noise of sqrt(m) sigmas if pixels are independent:
    an offset of 0.1 shifts a flux inside 300 pixels by 1.7 of its own sigmas.

    Parameters
    ----------
    sky
        As from `measure_sky`.
    side
        Side of the stamps, pixels.

    Returns
    -------
    offset
        (n, C) float32, the plane's height at the centre over the standard deviation of a pixel.
    gradient
        (n, C) float32, its rise across the frame, from edge to edge along the steepest way, over the same; noise alone
        gives a few hundredths. NaN, like the offset, where there is no noise to compare with.
    """
    noise = sky.noise[..., None]
    known = np.isfinite(sky.medians) & (noise > 0)
    heights = np.where(known, sky.medians, 0) / np.where(noise > 0, noise, 1)
    terms, pixels = _terms(side)
    tolerance = max(AGREEMENT, 3 * SCATTER_OF_MEDIAN / np.sqrt(pixels))
    slope = _slope_between_sides(heights, known, terms)
    flat, flat_agree = _settle(heights, known, terms, np.zeros_like(slope), tolerance)
    steep, steep_agree = _settle(heights, known, terms, slope, tolerance)
    plane = np.where((steep_agree > flat_agree)[..., None], steep, flat)
    told = known.any(axis=-1)
    offset = np.where(told, plane[..., 0], np.nan)
    gradient = np.where(told, np.hypot(plane[..., 1], plane[..., 2]), np.nan)
    return offset.astype(np.float32), gradient.astype(np.float32)


def noise_over_errors(images: np.ndarray, invvar: np.ndarray) -> np.ndarray:
    """(n, C) float32 scatter of the sky's pixels in units of the errors that the survey gives; NaN where it gives none.

    1 where the errors are right and pixels are independent; resampling onto a common grid shares noise between
    neighbours and brings it below.

    Parameters
    ----------
    images, invvar
        (n, C, H, W), nanomaggies per pixel, and 1 / nanomaggy^2.
    """
    pulls = np.where(np.isfinite(images), images, 0).astype(np.float32) * np.sqrt(np.maximum(invvar, 0))
    known = boxes_with_data(invvar > 0)
    ratio = quantile_of(scatter(border_of(cut_boxes(pulls))), known, 0.5)
    return np.where(known.any(axis=-1), ratio, np.nan).astype(np.float32)


def _terms(side: int) -> tuple[np.ndarray, int]:
    """(m, 3) of the border boxes: 1, and their centre's x and y from -0.5 to 0.5 across the frame; pixels of a box."""
    pixel = (np.arange(side) + 0.5) / side - 0.5
    y, x = np.meshgrid(pixel, pixel, indexing="ij")
    boxes = [border_of(cut_boxes(axis)) for axis in (x, y)]
    x_of_box, y_of_box = (box.mean(axis=-1) for box in boxes)
    return np.stack([np.ones_like(x_of_box), x_of_box, y_of_box], axis=-1), boxes[0].shape[-1]


def _slope_between_sides(heights: np.ndarray, known: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """(n, C, 2) rise per frame in x and y, from the quartiles of opposite sides; 0 where one has no known box."""
    slopes = []
    for place in (terms[:, 1], terms[:, 2]):
        first, last = (np.isclose(place, end) for end in (place.min(), place.max()))
        both = known[..., first].any(axis=-1) & known[..., last].any(axis=-1)
        levels = [quantile_of(heights[..., side], known[..., side], 0.25) for side in (first, last)]
        slopes.append(np.where(both, levels[1] - levels[0], 0) / (place.max() - place.min()))
    return np.stack(slopes, axis=-1)


def _settle(
    heights: np.ndarray, known: np.ndarray, terms: np.ndarray, slope: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """The plane (n, C, 3) that a beginning with `slope` ends at, and how many boxes agree with it."""
    begin = quantile_of(heights - slope @ terms[:, 1:].T, known, 0.25)
    plane = np.concatenate([begin[..., None], slope], axis=-1)
    for _ in range(ROUNDS):
        plane = _fit(heights, known & (np.abs(heights - plane @ terms.T) <= tolerance), terms)
    return plane, (known & (np.abs(heights - plane @ terms.T) <= tolerance)).sum(axis=-1)


def _fit(heights: np.ndarray, chosen: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """(n, C, 3) plane of least squares through the chosen heights (n, C, m); zero where there are none."""
    products = (terms[:, :, None] * terms[:, None, :]).reshape(len(terms), 9)
    matrix = (chosen @ products).reshape(*chosen.shape[:2], 3, 3)
    matrix += np.diag([1e-9, STIFFNESS * len(terms), STIFFNESS * len(terms)])
    vector = np.where(chosen, heights, 0) @ terms
    return np.asarray(np.linalg.solve(matrix, vector[..., None])[..., 0])
