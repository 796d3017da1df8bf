"""How steeply the light of the central source falls: what tells a star from a galaxy at any pixel scale."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tasks.preprocess.sky import Sky
from tasks.preprocess.sources import combine_bands, near_centre, peak_near_centre, segment_above, smoothing_pixels

DISPLAY_SOFTENING = 4.0
"""Pictures are stretched by asinh; sinh(4 p / 255) undoes it well enough that bright and faint stars of SDSS
pictures have the same profile. Surveys' own numbers differ: 4.5 for the viewer of the Legacy Surveys, for one."""

CLIPPED = 245
"""Display values from here on say nothing about a profile."""

HALF, OUTER = 0.5, 0.15
"""Shares of the peak at which the profile's width is measured."""


def measure_profile(images: np.ndarray, sky: Sky, quantised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Width of the central source at half its peak, and how fast it falls from there.

    A Gaussian's radius at 15 % of the peak is 1.65 times that at 50 %, an image of a point source 1.6 to 1.9,
    an exponential disk's 2.7, and a de Vaucouleurs profile's more: a ratio needs no pixel scale.

    Parameters
    ----------
    images
        (n, C, H, W); nanomaggies, or display values 0..255 (`quantised`), which are unstretched roughly
        and in the brightest channel that is not clipped.

    Returns
    -------
    half_peak_radius, falloff
        (n,) float32: radius of the circle with the area above half of the peak, pixels; and the radius at 15 %
        over it. NaN where every channel is clipped or nothing rises above the sky.
    """
    light = _display_light(images, sky) if quantised else combine_bands(images, sky)
    count, height, width = light.shape
    side = min(height, width)
    smooth = ndimage.gaussian_filter(light, (0, *[smoothing_pixels(side)] * 2))
    peak = smooth.reshape(count, -1)[np.arange(count), peak_near_centre(smooth)]
    half, outer = (np.sqrt(segment_above(smooth, share * peak).sum(axis=(1, 2)) / np.pi) for share in (HALF, OUTER))
    with np.errstate(divide="ignore", invalid="ignore"):
        falloff = outer / half
    return np.where(peak > 0, half, np.nan).astype(np.float32), np.where(peak > 0, falloff, np.nan).astype(np.float32)


def _display_light(images: np.ndarray, sky: Sky) -> np.ndarray:
    """(n, H, W) unstretched light of the brightest unclipped channel; all zero where each is clipped."""
    near = near_centre(*images.shape[-2:])
    highest = images[:, :, near].max(axis=2).astype(np.float32)
    rise = np.where(highest < CLIPPED, highest - sky.level, -np.inf)
    rows, best = np.arange(len(images)), rise.argmax(axis=1)

    def unstretch(values: np.ndarray) -> np.ndarray:
        return np.sinh(DISPLAY_SOFTENING / 255 * values.astype(np.float32))

    light = unstretch(images[rows, best]) - unstretch(sky.level[rows, best])[:, None, None]
    return np.where(np.isfinite(rise.max(axis=1))[:, None, None], light, 0)
