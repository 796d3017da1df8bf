"""Bars, arms, rings and dust, ring by ring: what one number for a whole galaxy averages away.

Around a ring that a bar crosses, light has a strong second Fourier order, which is gone further out; arms have it
further out, and a lane of dust reddens part of a ring. Bars have been measured by Fourier orders since Ohta et al.
(1990), on deprojected fluxes; this is a simple form for pictures, for whole batches and on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .outline import Outlined, above_sky, shape_of, smoothed

RINGS = 8
ORDERS = (1, 2, 3, 4)
RING_MEASURES = (
    *(f"ring_{ring}_order_{order}" for ring in range(RINGS) for order in ORDERS),
    *(f"ring_{ring}_colour" for ring in range(RINGS)),
    *(f"ring_{ring}_colour_scatter" for ring in range(RINGS)),
)

RING_COLUMNS = tuple(f"measured_{name}" for name in RING_MEASURES)
"""Names of the catalogue's columns with the measures, in their order."""

INNERMOST, OUTERMOST = 0.06, 1.5
"""Elliptical radii of the first and the last circle, in units of that which holds 80 % of the light."""

CIRCLES = 2
"""To a ring."""

PLACES = 48
"""Around a circle."""

WHOLE = 0.8
"""Share of a circle's places that must lie in the picture; of one that has fewer nothing is known, which is 0."""

RING_SMOOTHING = 1 / 96
"""Gaussian sigma, share of the side, of what is looked at."""

FAINT = 0.02
"""Of full scale, added to what amplitudes and colours are divided by, so that they fade where a ring does."""


def measure_rings(galaxy: Outlined) -> Tensor:
    """Measure eight elliptical rings of each galaxy, of the outline's axis ratio.

    Returns
    -------
    Tensor
        (N, len(RING_MEASURES)) float32, all finite, which turning and mirroring leave as they are, but for what a
        square grid of pixels does. Fourier amplitudes of the light around a ring over its mean: 0.5 for
        1 + 0.5 cos 2 theta. Red minus blue over the sum of the channels; and the scatter of that around the ring. Noise
        adds to amplitudes and scatter.
    """
    with torch.autocast(galaxy.light.device.type, enabled=False):
        around, known = _unrolled(galaxy)
        light = around.mean(dim=1)
        waves = 2 / PLACES * torch.fft.rfft(light, dim=2).abs()[:, :, list(ORDERS)]
        amplitudes = waves / (light.mean(dim=2).clamp_min(0) + FAINT)[:, :, None]
        colour = ((around[:, 0] - around[:, 2]) / (around.sum(dim=1).clamp_min(0) + 3 * FAINT)).clamp(-1, 1)
        parts = (amplitudes, colour.mean(dim=2), colour.std(dim=2))
        return torch.cat([_by_ring(part, known) for part in parts], dim=1).nan_to_num().clamp(-5, 5)


def _unrolled(galaxy: Outlined) -> tuple[Tensor, Tensor]:
    """(N, 3, circles, places) above the sky, from the major axis on; (N, circles), 1 for circles in the picture."""
    rgb, middle, shape = galaxy.rgb, galaxy.shape.middle, shape_of(galaxy.outline)
    circles = torch.linspace(INNERMOST, OUTERMOST, CIRCLES * RINGS, device=rgb.device)
    angles = torch.arange(PLACES, device=rgb.device) * (2 * math.pi / PLACES)
    radius = circles[None, :, None] * galaxy.radii[:, 2, None, None]
    stretch = shape.axis_ratio[:, None, None].sqrt()
    along, across = radius / stretch * angles.cos(), radius * stretch * angles.sin()
    cosine, sine = shape.angle.cos()[:, None, None], shape.angle.sin()[:, None, None]
    x = middle[:, 0, None, None] + along * cosine - across * sine
    y = middle[:, 1, None, None] + along * sine + across * cosine
    places = 2 * torch.stack([x, y], dim=3)
    count, channels, side, _ = rgb.shape
    light = smoothed(above_sky(rgb.flatten(0, 1))[0], side * RING_SMOOTHING).view(count, channels, side, side)
    around = functional.grid_sample(light, places, padding_mode="border", align_corners=False)
    return around, ((places.abs().amax(dim=3) <= 1).float().mean(dim=2) >= WHOLE).float()


def _by_ring(of_circles: Tensor, known: Tensor) -> Tensor:
    """(N, circles, ...) to (N, rings x ...)."""
    count = len(of_circles)
    kept = of_circles.reshape(*known.shape, -1) * known[:, :, None]
    return kept.view(count, RINGS, CIRCLES, -1).mean(dim=2).flatten(1)
