"""The sources of a stamp: the one in the centre with its shape, and how many more there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tasks.preprocess.sky import SIGMA_OF_MAD, Sky, border_of, cut_boxes, quantile_of, scatter

THRESHOLD = 3.0
"""The central segment never reaches below so many sigmas of the smoothed signal."""

SMOOTHING = 1 / 120
"""Width (sigma) of the smoothing before detection, share of the stamp's side: 1.3 px of 152."""

SMALLEST_SEGMENT = 1 / 2000
"""Area under which a segment is a peak of noise, share of the stamp: 12 px of 152 x 152."""

BRIGHT = 12.0
"""Bright segments are where the smoothed signal exceeds so many sigmas."""

CENTRE = 0.08
"""The central source has the highest signal within so much of the stamp's side from the centre."""

ISOPHOTE = 0.15
"""The central segment ends where its signal falls to this share of its peak, so that it ends before its neighbours."""

RIDGE = 0.5
"""Something brighter that is joined to the central source above this share of its peak makes it a part of that."""


@dataclass(frozen=True)
class Sources:
    """What n stamps hold; arrays of (n,). Lengths are in pixels of the stamp; NaN where there is no central source.

    Attributes
    ----------
    snr
        Total signal-to-noise of the central segment, all bands together.
    peak
        Highest smoothed signal of the central segment, in sigmas.
    area
        Area of the central segment, share of the stamp.
    half_light_radius
        Radius of the circle that holds half of the central segment's light.
    concentration
        5 log10(r80 / r20) of the same growth curve (Kent 1985).
    elongation
        Long over short axis of the central segment, from its second moments weighted by light.
    offset
        Distance from the stamp's centre of the summit that the peak near the centre belongs to: the highest point that
        is reached from there without going below `RIDGE` of that peak; share of the stamp's side.
    outshone
        Signal at the summit over the peak near the centre, 1 or more.
    bright_segments
        Bright segments other than the central one.
    bright_area
        Their area together, share of the stamp.
    signal
        (n, H, W) float32, smoothed signal in sigmas.
    central
        (n, H, W) bool, the central segment.
    """

    snr: np.ndarray
    peak: np.ndarray
    area: np.ndarray
    half_light_radius: np.ndarray
    concentration: np.ndarray
    elongation: np.ndarray
    offset: np.ndarray
    outshone: np.ndarray
    bright_segments: np.ndarray
    bright_area: np.ndarray
    signal: np.ndarray
    central: np.ndarray


def measure_sources(images: np.ndarray, sky: Sky) -> Sources:
    """Find and measure the sources of stamps (n, C, H, W), whose background is `sky`.

    Pixels of a resampled picture share noise; hence a segment's noise comes from the scatter of box
    sums, not of pixels.
    """
    height, width = images.shape[-2:]
    side = min(height, width)
    light = combine_bands(images, sky)
    smooth = ndimage.gaussian_filter(light, (0, smoothing_pixels(side), smoothing_pixels(side)))
    known = np.isfinite(sky.medians).all(axis=1)
    signal = smooth / _noise_of(smooth, known)[:, None, None]

    peak, central = _central_segment(signal)
    bright_segments, bright_area = _bright_segments(signal, central)
    offset, highest = _summit(signal, peak)
    shape = _shape(light, central)
    pixels_inside = central.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = (light * central).sum(axis=(1, 2)) / (_noise_of_sums(light, known) * np.sqrt(pixels_inside))
    none = pixels_inside == 0
    return Sources(
        snr=np.where(none, 0, snr).astype(np.float32),
        peak=peak.astype(np.float32),
        area=(pixels_inside / (height * width)).astype(np.float32),
        half_light_radius=shape["half_light_radius"],
        concentration=shape["concentration"],
        elongation=shape["elongation"],
        offset=np.where(none, np.nan, offset).astype(np.float32),
        outshone=np.where(none, np.nan, highest / np.maximum(peak, THRESHOLD)).astype(np.float32),
        bright_segments=bright_segments.astype(np.int32),
        bright_area=bright_area.astype(np.float32),
        signal=signal.astype(np.float32),
        central=central,
    )


def smoothing_pixels(side: int) -> float:
    """Width of the smoothing before detection, pixels."""
    return side * SMOOTHING


def label_segments(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Connected segments of a stack (n, H, W); pixels of different stamps never touch."""
    structure = np.zeros((3, 3, 3), int)
    structure[1] = 1
    labels, found = ndimage.label(mask, structure)
    return labels, int(found)


def _stamp_of(labels: np.ndarray, found: int) -> np.ndarray:
    """Stamp in which each label lies, (found + 1,)."""
    stamps = np.zeros(found + 1, np.int64)
    stamps[labels] = np.arange(len(labels))[:, None, None]
    return stamps


def _central_segment(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) highest signal near the centre, and (n, H, W) the segment that holds it down to its isophote."""
    count, height, width = signal.shape
    peak = signal.reshape(count, -1)[np.arange(count), peak_near_centre(signal)]
    central = segment_above(signal, np.maximum(THRESHOLD, ISOPHOTE * peak))
    central &= (central.sum(axis=(1, 2)) >= SMALLEST_SEGMENT * height * width)[:, None, None]
    return peak, central


def segment_above(signal: np.ndarray, level: np.ndarray) -> np.ndarray:
    """(n, H, W) bool: what is connected with the peak near the centre above `level` (n,); empty if it is not above."""
    at = peak_near_centre(signal)
    labels, _ = label_segments(signal > level[:, None, None])
    chosen = labels.reshape(len(labels), -1)[np.arange(len(labels)), at]
    return (labels == chosen[:, None, None]) & (chosen > 0)[:, None, None]


def peak_near_centre(signal: np.ndarray) -> np.ndarray:
    """(n,) flat index of the highest pixel near the centre of (n, H, W)."""
    near = near_centre(*signal.shape[1:])
    return np.flatnonzero(near)[np.argmax(signal[:, near], axis=1)]


def near_centre(height: int, width: int) -> np.ndarray:
    """(H, W) bool, where the central source's peak is looked for."""
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) <= CENTRE * min(height, width)


def combine_bands(images: np.ndarray, sky: Sky) -> np.ndarray:
    """(n, H, W) mean over bands of (pixel - sky) / noise, so that each band counts by what it detects."""
    noise = np.where(sky.noise > 0, sky.noise, np.inf)[..., None, None]
    pixels = np.where(np.isfinite(images), images, 0).astype(np.float32)
    return np.asarray(((pixels - sky.level[..., None, None]) / noise).mean(axis=1))


def _summit(signal: np.ndarray, peak: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) distance of the summit from the centre, share of the side, and its signal."""
    count, height, width = signal.shape
    inside = np.where(segment_above(signal, RIDGE * peak), signal, -np.inf).reshape(count, -1)
    at = inside.argmax(axis=1)
    y, x = np.divmod(at, width)
    return np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / min(height, width), inside[np.arange(count), at]


def _bright_segments(signal: np.ndarray, central: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) number and (n,) area, share of the stamp, of bright segments that do not touch the central one."""
    count, height, width = signal.shape
    labels, found = label_segments(signal > BRIGHT)
    area = np.bincount(labels.ravel(), minlength=found + 1)
    other = area >= SMALLEST_SEGMENT * height * width
    other[0] = False
    other[labels[central]] = False
    stamps = _stamp_of(labels, found)[other]
    number = np.bincount(stamps, minlength=count)
    return number, np.bincount(stamps, area[other], minlength=count) / (height * width)


def _noise_of(smooth: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) scatter of a smoothed frame: median over the known border boxes (n, m) of the box's own scatter."""
    return _positive(quantile_of(scatter(border_of(cut_boxes(smooth))), known, 0.5))


def _noise_of_sums(light: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) scatter of a sum of m pixels over sqrt(m), from neighbouring border boxes that are both known (n, m).

    For independent pixels that is the scatter of a pixel; where a picture was resampled or compressed it is more.
    """
    boxes = border_of(cut_boxes(light))
    means = boxes.mean(axis=-1)
    steps = np.abs(means - np.roll(means, 1, axis=1))
    typical = quantile_of(steps, known & np.roll(known, 1, axis=1), 0.5)
    return _positive(SIGMA_OF_MAD * typical / np.sqrt(2) * np.sqrt(boxes.shape[-1]))


def _positive(noise: np.ndarray) -> np.ndarray:
    return np.where(noise > 0, noise, np.inf)


def _shape(light: np.ndarray, central: np.ndarray) -> dict[str, np.ndarray]:
    """Growth curve and second moments of the central segments, by light."""
    count = len(light)
    stamps, y, x = np.nonzero(central)
    weight = np.clip(light[stamps, y, x], 0, None).astype(np.float64)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(stamps, values, minlength=count)

    with np.errstate(divide="ignore", invalid="ignore"):
        sum_of_weight = total(weight)
        centre_y, centre_x = total(weight * y) / sum_of_weight, total(weight * x) / sum_of_weight
        from_y, from_x = y - centre_y[stamps], x - centre_x[stamps]
        # a pixel is a square, not a point: it adds 1/12 to each second moment
        moment_yy = total(weight * from_y**2) / sum_of_weight + 1 / 12
        moment_xx = total(weight * from_x**2) / sum_of_weight + 1 / 12
        moment_xy = total(weight * from_y * from_x) / sum_of_weight
        mean, half_gap = (moment_yy + moment_xx) / 2, np.hypot((moment_yy - moment_xx) / 2, moment_xy)
        elongation = np.sqrt((mean + half_gap) / np.maximum(mean - half_gap, 1 / 12))
        radii = _radii(stamps, np.hypot(from_y, from_x), weight, count, (0.2, 0.5, 0.8))
        concentration = 5 * np.log10(radii[:, 2] / radii[:, 0])
    return {
        "half_light_radius": radii[:, 1].astype(np.float32),
        "concentration": concentration.astype(np.float32),
        "elongation": elongation.astype(np.float32),
    }


def _radii(
    stamps: np.ndarray, distance: np.ndarray, weight: np.ndarray, count: int, shares: tuple[float, ...]
) -> np.ndarray:
    """(n, shares) radius that holds each share of the light, pixels; NaN for stamps without light."""
    order = np.lexsort((distance, stamps))
    stamps, distance, weight = stamps[order], distance[order], weight[order]
    first = np.searchsorted(stamps, np.arange(count))
    last = np.searchsorted(stamps, np.arange(count), side="right")
    radii = np.full((count, len(shares)), np.nan)
    for stamp in np.flatnonzero(last > first):
        inside = slice(first[stamp], last[stamp])
        growth = np.cumsum(weight[inside])
        if growth[-1] > 0:
            radii[stamp] = np.interp(np.asarray(shares) * growth[-1], growth, distance[inside])
    return radii
