"""Puts lensed arcs onto stamps of galaxies, so that boxes and masks of arcs are known where no real lens has any.

Fluxes are added as fluxes. Pictures have no fluxes: there the arc is added in *display space*, to the values that the
viewer's stretch would have started from, with a PSF, colours and brightnesses measured on the same survey's pictures.
The arc's own photon noise is left out: at the surface brightness of arcs the sky's noise is several times larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .photometry import VIEWER_Q

Stamp = NDArray[np.float32]

VISIBLE_SIGMA = 2.0
"""A pixel belongs to the visible arc if the arc is this many times the noise there ..."""

VISIBLE_SHARE = 0.2
"""... and at least this share of the arc's peak."""

HIDING_SHARE = 0.05
"""A galaxy's own light and structure hide an arc as noise of this share of it would."""

LEAST_PART = 0.15
"""A part of the arc, such as the counter-image, belongs to it if it has this share of the largest part's area."""

LEAST_PEAK_SIGMA = 6.0
"""Arcs whose peak is fainter than this many times the noise are brightened to it: nobody could draw their mask."""

LEAST_DISPLAY_NOISE = 0.01
"""Pictures with a black-clipped sky have no noise there; the eye has about this."""

BORDER = 8


@dataclass(frozen=True)
class Injected:
    """A stamp (C, H, W) with an arc on it, and the mask (H, W) of the arc as far as it can be seen."""

    image: Stamp
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) about the mask, pixels; edges of pixel i are i and i + 1."""
        return box_of(self.mask)


@dataclass(frozen=True)
class SurveyLook:
    """What a survey's pictures look like, as far as an injected arc must match it.

    Attributes
    ----------
    psf_fwhm
        Width of point sources in pixels, after the stretch is undone.
    peaks
        (K, 3) R, G, B in 0..1 at the peaks of the bluest objects in the pictures.
    """

    psf_fwhm: float
    peaks: NDArray[np.float64]


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) about the true pixels of (H, W), half open; raises ValueError if there is none."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError("an empty mask has no box")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def border_noise(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Standard deviation (C,) of the sky in the frame of 8 pixels around (C, H, W), by the median deviation."""
    frame = np.ones(image.shape[-2:], dtype=bool)
    frame[BORDER:-BORDER, BORDER:-BORDER] = False
    pixels = image[:, frame].astype(np.float64)
    deviation = np.abs(pixels - np.median(pixels, axis=1, keepdims=True))
    noise: NDArray[np.float64] = 1.4826 * np.median(deviation, axis=1)
    return noise


def inject_flux(stamp: Stamp, arc: Stamp) -> Injected:
    """Add the fluxes of an arc.

    Parameters
    ----------
    stamp, arc
        (C, H, W) in nanomaggies: a galaxy with its noise, and an arc without any.
    """
    noise = np.maximum(border_noise(stamp), 1e-6)[:, None, None]
    hiding = np.hypot(noise, HIDING_SHARE * np.maximum(stamp, 0))
    significance = np.sqrt(np.sum((np.maximum(arc, 0) / hiding) ** 2, axis=0))
    peak = float(significance.max())
    brighter = max(1.0, LEAST_PEAK_SIGMA / peak) if peak > 0 else 1.0
    return Injected((stamp + brighter * arc).astype(np.float32), _visible(brighter * significance, 1.0))


def inject_display(picture: Stamp, shape: NDArray[np.floating], peak_colour: NDArray[np.floating]) -> Injected:
    """Add an arc to a picture, in display space.

    Parameters
    ----------
    picture
        (3, H, W) R, G, B in 0..1.
    shape
        (H, W) surface brightness of the arc, any unit.
    peak_colour
        (3,) R, G, B in 0..1 that the arc's peak would have on black sky.
    """
    light = shape / shape.max()
    arc = display_to_linear(np.asarray(peak_colour, dtype=np.float64)[:, None, None]) * light
    image = np.clip(linear_to_display(display_to_linear(picture.astype(np.float64)) + arc), 0, 1).astype(np.float32)
    change = np.abs(image - picture).max(axis=0)  # little where a bright galaxy outshines the arc
    noise = float(np.max(border_noise(picture)))
    return Injected(image, _visible(change, max(noise, LEAST_DISPLAY_NOISE)))


def display_to_linear(picture: NDArray[np.floating]) -> NDArray[np.float64]:
    """Undo the viewer's stretch: (3, H, W) display values to values proportional to flux.

    Exact for pictures made by `photometry.viewer_rgb` where nothing is clipped (the constant that the viewer adds to
    the fluxes stays in); an approximation for other surveys' pictures.
    """
    mean = np.maximum(picture.mean(axis=0, keepdims=True), 1e-6)
    intensity = np.sinh(np.sqrt(VIEWER_Q) * mean) / VIEWER_Q
    linear: NDArray[np.float64] = picture * (intensity / mean)
    return linear


def linear_to_display(linear: NDArray[np.floating]) -> NDArray[np.float64]:
    """The viewer's stretch of (3, H, W), without clipping; inverse of `display_to_linear`."""
    intensity = np.maximum(linear.mean(axis=0, keepdims=True), 1e-9)
    display: NDArray[np.float64] = linear * (np.arcsinh(VIEWER_Q * intensity) / (np.sqrt(VIEWER_Q) * intensity))
    return display


def survey_look(pictures: NDArray[np.floating]) -> SurveyLook:
    """Measure how sharp a survey's pictures are, and the colours of the blue objects in them.

    Parameters
    ----------
    pictures
        (N, 3, H, W) R, G, B in 0..1; some fifty are plenty.

    Raises
    ------
    ValueError
        If the pictures hold no objects that could be measured.
    """
    from scipy.ndimage import gaussian_filter, label, maximum_filter, maximum_position

    widths: list[float] = []
    peaks: list[NDArray[np.float64]] = []
    for picture in pictures.astype(np.float64):
        brightness = picture.max(axis=0)
        smooth = gaussian_filter(brightness, 1.0)
        threshold = max(0.2, 8 * float(np.max(border_noise(picture))))
        summits = (smooth == maximum_filter(smooth, size=7)) & (smooth > threshold) & (brightness < 0.9)
        rows, columns = np.nonzero(summits)
        linear = display_to_linear(picture).sum(axis=0)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            peaks.append(gaussian_filter(picture, (0, 1.0, 1.0))[:, row, column])
            low_row, low_column = max(row - 15, 0), max(column - 15, 0)
            window = linear[low_row : row + 16, low_column : column + 16]
            spot = (row - low_row, column - low_column)
            regions, _ = label(window > 0.5 * window[spot])
            area = regions == regions[spot]
            if maximum_position(window, area) == spot:
                widths.append(2 * float(np.sqrt(area.sum() / np.pi)))
    if len(peaks) < 4 or not widths:
        raise ValueError(f"{len(pictures)} pictures hold no objects to measure colours and sharpness on")
    colours = np.array(peaks)
    blueness = colours[:, 2] - colours[:, 0]
    bluest = colours[blueness >= np.quantile(blueness, 0.75)]
    return SurveyLook(psf_fwhm=float(np.quantile(widths, 0.1)), peaks=bluest)


def _visible(signal: NDArray[np.floating], noise: float) -> NDArray[np.bool_]:
    """What an eye would outline: without the specks, which would blow up the box."""
    from scipy.ndimage import label

    regions, count = label((signal > VISIBLE_SIGMA * noise) & (signal > VISIBLE_SHARE * signal.max()))
    areas = np.bincount(regions.ravel(), minlength=count + 1)
    areas[0] = 0
    large = areas > LEAST_PART * areas.max()
    visible: NDArray[np.bool_] = large[regions]
    return visible
