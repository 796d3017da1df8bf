"""Simulated galaxies as an archive's colour pictures show them, with what volunteers would say of them.

Archives scale their pictures to the galaxy and stretch them as they like. How large a galaxy is in its frame, its
seeing, brightness and noise are therefore drawn anew for each, and volunteers say what they would of what is left to be
seen. The ranges are our choice, made by eye beside some pictures of Galaxy Zoo 2: wide, and not fitted to anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..photometry import viewer_rgb
from .questions import QUESTIONS
from .scene import DISTURBED_RADIUS, SimulatedObject, draw_object, draw_stamp, stream
from .volunteers import probabilities

LOOK_STREAM = 3
PICTURE_BANDS = ("g", "r", "z")

RADIUS = (0.053, 0.12)
"""Half-light radius of the galaxy, in sides of the frame."""

SEEING = (1.0, 1.7)
"""FWHM, arcsec."""

SHARPEST = 2.2
"""Pixels that the FWHM has at least."""

PIXEL_SCALE = (0.131, 1.0)
"""Arcsec per pixel, whatever the galaxy's size asks for."""

BRIGHTNESS = (0.03, 0.5)
"""Of the bright middle in r, nanomaggies per pixel as the viewer takes them."""

NOISE = (0.0005, 0.006)
"""Standard deviation of g and r, nanomaggies per pixel; z has one and a half times as much."""

DARK = 4
"""Grey level of the empty sky, of 255."""

GAIN = 1.15
"""Published pictures are shown so much brighter than the viewer's."""

MERGERS = 0.05
"""Share of galaxies that merge with another or are disturbed."""


@dataclass(frozen=True, eq=False)
class Picture:
    """(3, size, size) uint8 RGB, and the (answers,) float32 chances of `questions.QUESTIONS`, all in a row."""

    rgb: NDArray[np.uint8]
    answers: NDArray[np.float32]


def draw_picture(seed: int, index: int, size: int) -> Picture:
    """The picture of object `index` of the set with `seed`, of `size` pixels along a side."""
    generator = stream(seed, index, LOOK_STREAM)
    seen = _framed(seed, index, size, generator)
    flux = draw_stamp(seen, size, noise=False).flux.astype(np.float64)
    middle = slice(size * 2 // 5, size - size * 2 // 5)
    bright = float(np.percentile(flux[1, middle, middle], 99))
    gain = _between(generator, BRIGHTNESS) / max(bright, 1e-6)
    noise = _between(generator, NOISE) * np.array([1.0, 1.0, 1.5])
    flux = flux * gain + noise[:, None, None] * generator.normal(size=flux.shape)
    rgb = viewer_rgb(torch.from_numpy(flux.astype(np.float32))[None], PICTURE_BANDS)[0].numpy() * 255
    rgb = (rgb - np.median(rgb, axis=(1, 2), keepdims=True) + DARK) * GAIN
    # what can be seen depends on the noise in units of the galaxy's own flux
    shown = replace(seen, conditions=replace(seen.conditions, noise=tuple(float(sigma) for sigma in noise / gain)))
    said = probabilities(shown)
    answers = np.concatenate([np.array(said[question]) / sum(said[question]) for question in QUESTIONS])
    return Picture(np.clip(np.round(rgb), 0, 255).astype(np.uint8), answers.astype(np.float32))


def _framed(seed: int, index: int, size: int, generator: np.random.Generator) -> SimulatedObject:
    """The object with the pixel scale at which it has a drawn size in the frame, and with a drawn seeing."""
    rates = {"lens_rate": 0.0, "merger_rate": MERGERS}
    galaxy = draw_object(seed, index, bands=PICTURE_BANDS, pixel_scale=PIXEL_SCALE[0], **rates).galaxy
    radius = DISTURBED_RADIUS if galaxy.disturbance else galaxy.half_light_radius
    scale = float(np.clip(radius / (size * _between(generator, RADIUS)), *PIXEL_SCALE))
    seeing = max(float(generator.uniform(*SEEING)), SHARPEST * scale)
    seen = draw_object(seed, index, bands=PICTURE_BANDS, pixel_scale=scale, **rates)
    return replace(seen, conditions=replace(seen.conditions, psf_fwhm=(seeing,) * len(PICTURE_BANDS)))


def _between(generator: np.random.Generator, limits: tuple[float, float]) -> float:
    """Uniform in the logarithm."""
    return float(np.exp(generator.uniform(*np.log(limits))))
