"""What classical morphology measures on a picture of a galaxy, for whole batches and on any device.

The measures are those of the literature in simple forms: fast, defined for every picture, and good enough to learn
from and to search by. They are of a picture for display; for numbers of fluxes take a package that measures with care,
such as statmorph.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .outline import TINY, Outlined, Shape, grid, shape_of, smoothed

MEASURES = (
    "log_flux", "log_area", "axis_ratio", "axis_ratio_of_outline", "fill",
    "log_r20", "log_r50", "log_r80", "concentration",
    "asymmetry", "quarter_asymmetry", "smoothness", "gini", "m20",
    "red_minus_green", "green_minus_blue", "inner_colour", "outer_colour",
    "residual", "lopsidedness", "two_fold", "three_fold", "four_fold", "spiral", "counter_spiral",
    *(f"profile_{ring}" for ring in range(8)),
)  # fmt: skip

MEASURED_COLUMNS = tuple(f"measured_{name}" for name in MEASURES)
"""Names of the catalogue's columns with the measures, in their order."""

RINGS = 8

DETAIL = 1 / 48
"""Gaussian sigma, share of the side, that `smoothness` takes away."""


def measure(galaxy: Outlined) -> Tensor:
    """Measure each galaxy as a whole.

    Returns
    -------
    Tensor
        (N, len(MEASURES)) float32, all finite. Lengths are in units of the side. Nothing depends on how the galaxy is
        turned or mirrored, but for what a square grid of pixels does.

    Notes
    -----
    Concentration is 5 log10(r80 / r20), asymmetry the summed difference to the turned picture over twice the flux
    (Conselice 2003), smoothness the summed difference to a smoothed picture over the flux; Gini and M20 as in Lotz et
    al. (2004). `residual` is what a profile of elliptical rings leaves; `lopsidedness` to `four_fold` are Fourier
    amplitudes around the rings, `spiral` and `counter_spiral` those along logarithmic spirals, the larger one first.
    """
    with torch.autocast(galaxy.light.device.type, enabled=False):
        light, outline, inside, shape = galaxy.light, galaxy.outline, galaxy.inside, galaxy.shape
        side = light.shape[-1]
        flux, area = inside.sum((1, 2)).clamp_min(TINY), outline.sum((1, 2))
        r20, r50, r80 = galaxy.radii.unbind(1)
        ring, profile = _profile(galaxy.radius, light, outline, r80)
        angle = torch.atan2(galaxy.across, galaxy.along)
        fourier, spirals = _fourier(galaxy.radius, angle, inside, r50, r80)
        columns = [
            (flux / side**2).clamp_min(1e-4).log(),
            (area / side**2).clamp_min(1e-4).log(),
            shape.axis_ratio,
            shape_of(outline).axis_ratio,
            area / side**2 / (math.pi * r80.square()),
            *galaxy.radii.log().unbind(1),
            5 * (r80 / r20).log10(),
            *_asymmetries(light, outline, shape.middle, flux),
            ((light - smoothed(light, side * DETAIL)).abs() * outline).sum((1, 2)) / flux,
            _gini(inside, outline),
            _m20(inside.clamp_min(0), shape),
            *_colours(galaxy.rgb, outline, galaxy.radius, r50),
            ((light - ring).abs() * outline).sum((1, 2)) / flux,
            *fourier,
            *spirals,
            *(profile / profile[:, :2].mean(1, keepdim=True).clamp_min(0.01)).clamp(-1, 3).unbind(1),
        ]
        return torch.stack(columns, dim=1).nan_to_num().clamp(-10, 10)


def _profile(radius: Tensor, light: Tensor, outline: Tensor, r80: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's mean of its elliptical ring, and the means of RINGS rings of 0.25 r80; empty rings are dark."""
    ring = (radius / r80[:, None, None] * 4).long().clamp_max(2 * RINGS).flatten(1)
    shape = (len(radius), 2 * RINGS + 1)
    weights = outline.flatten(1)
    sums = light.new_zeros(shape).scatter_add_(1, ring, light.flatten(1) * weights)
    counts = light.new_zeros(shape).scatter_add_(1, ring, weights)
    means = sums / counts.clamp_min(1)
    return means.gather(1, ring).view_as(light), means[:, :RINGS]


def _asymmetries(light: Tensor, outline: Tensor, middle: Tensor, flux: Tensor) -> list[Tensor]:
    """By half a turn and by a quarter, around the middle of the light."""
    found = []
    count, height, width = light.shape
    for cosine, sine in ((-1.0, 0.0), (0.0, 1.0)):
        turn = light.new_tensor([[cosine, -sine], [sine, cosine]])
        offset = 2 * (middle - middle @ turn.T)
        theta = torch.cat([turn.expand(count, 2, 2), offset[:, :, None]], dim=2)
        grid = functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
        turned = functional.grid_sample(light[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        found.append(((light - turned).abs() * outline).sum((1, 2)) / (2 * flux))
    return found


def _gini(inside: Tensor, outline: Tensor) -> Tensor:
    """Of the pixels within the outline."""
    count = outline.sum((1, 2))
    values = torch.where(outline > 0, inside.abs(), torch.inf).flatten(1).sort(dim=1).values
    values = torch.where(values.isfinite(), values, 0)  # those outside come last and weigh nothing
    rank = torch.arange(1, values.shape[1] + 1, device=inside.device, dtype=inside.dtype)
    weighted = ((2 * rank - count[:, None] - 1) * values).sum(dim=1)
    return weighted / (values.sum(dim=1) * (count - 1)).clamp_min(TINY)


def _m20(inside: Tensor, shape: Shape) -> Tensor:
    """log10 of the second moment of the brightest fifth of the light over that of all."""
    x, y = grid(inside)
    dx, dy = x - shape.middle[:, 0, None, None], y - shape.middle[:, 1, None, None]
    light, order = inside.flatten(1).sort(dim=1, descending=True)
    moment = (inside * (dx**2 + dy**2)).flatten(1).gather(1, order)
    brightest = light.cumsum(dim=1) <= 0.2 * light.sum(dim=1, keepdim=True)
    return ((moment * brightest).sum(dim=1).clamp_min(TINY) / moment.sum(dim=1).clamp_min(TINY)).log10()


def _colours(rgb: Tensor, outline: Tensor, radius: Tensor, r50: Tensor) -> list[Tensor]:
    """Differences of channels over their sum: of all, then red minus blue of the inner and of the outer half."""

    def difference(weight: Tensor, first: int, second: int) -> Tensor:
        light = (rgb * weight[:, None]).sum((2, 3))
        return (light[:, first] - light[:, second]) / light.sum(dim=1).clamp_min(TINY)

    inner = outline * (radius < r50[:, None, None])
    whole = [difference(outline, 0, 1), difference(outline, 1, 2)]
    return [*whole, difference(inner, 0, 2), difference(outline - inner, 0, 2)]


def _fourier(
    radius: Tensor, angle: Tensor, inside: Tensor, r50: Tensor, r80: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Amplitudes of orders 1 to 4 around the outer half, and along two-armed spirals of either sense."""
    outer = inside * ((radius > 0.5 * r50[:, None, None]) & (radius < 1.5 * r80[:, None, None]))
    total = outer.abs().sum((1, 2)).clamp_min(TINY)

    def amplitude(phase: Tensor) -> Tensor:
        real, imaginary = (outer * torch.cos(phase)).sum((1, 2)), (outer * torch.sin(phase)).sum((1, 2))
        return (real.square() + imaginary.square()).sqrt() / total

    winding = 4 * (radius / r50[:, None, None]).clamp_min(0.1).log()
    spirals = torch.stack([amplitude(2 * angle + winding), amplitude(2 * angle - winding)], dim=1)
    strongest = spirals.sort(dim=1, descending=True).values
    return [amplitude(order * angle) for order in (1, 2, 3, 4)], list(strongest.unbind(1))
