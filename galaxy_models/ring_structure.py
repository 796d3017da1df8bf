"""Bars, arms, rings and dust, ring by ring: what one number for a whole galaxy averages away.

A bar is a strong even Fourier amplitude of the inner rings that is gone further out, arms are one of the outer rings,
dust reddens one side of a ring and not the other. That is how bars have been measured since Ohta et al. (1990), there
on fluxes; here it is done on a picture, for whole batches and on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .outline import Outlined, above_sky, smoothed

RINGS = 8
ORDERS = (1, 2, 3, 4)
RING_MEASURES = (
    *(f"ring_{ring}_order_{order}" for ring in range(RINGS) for order in ORDERS),
    *(f"ring_{ring}_colour" for ring in range(RINGS)),
    *(f"ring_{ring}_colour_scatter" for ring in range(RINGS)),
)

INNERMOST, OUTERMOST = 0.06, 1.5
"""Elliptical radii of the first and the last circle, in units of that which holds 80 % of the light."""

CIRCLES = 2
"""To a ring."""

PLACES = 48
"""Around a circle."""

SMOOTHING = 1 / 96
"""Gaussian sigma, share of the side, of what is looked at."""

FAINT = 0.02
"""Of full scale; a ring no brighter than that has amplitudes and colours close to 0, whatever its noise."""


def measure_rings(galaxy: Outlined) -> Tensor:
    """Measure eight elliptical rings of each galaxy.

    Returns
    -------
    Tensor
        (N, len(RING_MEASURES)) float32, all finite, which turning and mirroring leave as they are: Fourier amplitudes
        of the light around each ring, over its mean; red minus blue over the light; and the scatter of that around the
        ring.
    """
    with torch.autocast(galaxy.light.device.type, enabled=False):
        around = _unrolled(galaxy)
        light = around.mean(dim=1)
        mean = light.mean(dim=2)
        waves = torch.fft.rfft(light, dim=2).abs() / PLACES
        amplitudes = waves[:, :, list(ORDERS)] / (mean.abs() + FAINT)[:, :, None]
        colour = ((around[:, 0] - around[:, 2]) / (around.sum(dim=1) + 3 * FAINT)).clamp(-1, 1)
        parts = (amplitudes, colour.mean(dim=2), colour.std(dim=2))
        return torch.cat([_by_ring(part) for part in parts], dim=1).nan_to_num().clamp(-5, 5)


def _unrolled(galaxy: Outlined) -> Tensor:
    """(N, 3, circles, places) above the sky, from the major axis on."""
    rgb, shape = galaxy.rgb, galaxy.shape
    circles = torch.linspace(INNERMOST, OUTERMOST, CIRCLES * RINGS, device=rgb.device)
    angles = torch.arange(PLACES, device=rgb.device) * (2 * math.pi / PLACES)
    radius = circles[None, :, None] * galaxy.radii[:, 2, None, None]
    stretch = shape.axis_ratio[:, None, None].sqrt()
    along, across = radius / stretch * angles.cos(), radius * stretch * angles.sin()
    cosine, sine = shape.angle.cos()[:, None, None], shape.angle.sin()[:, None, None]
    x = shape.middle[:, 0, None, None] + along * cosine - across * sine
    y = shape.middle[:, 1, None, None] + along * sine + across * cosine
    count, channels, side, _ = rgb.shape
    light = smoothed(above_sky(rgb.flatten(0, 1))[0], side * SMOOTHING).view(count, channels, side, side)
    places = 2 * torch.stack([x, y], dim=3)
    return functional.grid_sample(light, places, padding_mode="border", align_corners=False)


def _by_ring(of_circles: Tensor) -> Tensor:
    """(N, circles, ...) to (N, rings x ...)."""
    count = len(of_circles)
    return of_circles.reshape(count, RINGS, CIRCLES, -1).mean(dim=2).flatten(1)
