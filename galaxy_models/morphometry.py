"""What classical morphology measures on a picture of a galaxy, for whole batches and on any device.

The measures are those of the literature in simple forms: fast, defined for every picture, and good enough to learn
from and to search by. They are of a picture for display; for numbers of fluxes take a package that measures with care,
such as statmorph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

MEASURES = (
    "log_flux", "log_area", "axis_ratio", "axis_ratio_of_outline", "fill",
    "log_r20", "log_r50", "log_r80", "concentration",
    "asymmetry", "quarter_asymmetry", "smoothness", "gini", "m20",
    "red_minus_green", "green_minus_blue", "inner_colour", "outer_colour",
    "residual", "lopsidedness", "two_fold", "three_fold", "four_fold", "spiral", "counter_spiral",
    *(f"profile_{ring}" for ring in range(8)),
)  # fmt: skip

MEASURED_COLUMNS = tuple(f"measured_{name}" for name in MEASURES)
"""Names of the columns with the measures, in their order."""

BORDER = 1 / 16
"""Share of the side, along each edge, that counts as sky."""

SMOOTHING = 1 / 48
"""Gaussian sigma, share of the side, of the picture in which the outline is drawn."""

SIGMAS = 1.5
"""Of the sky's scatter, above which smoothed pixels belong to the galaxy; and at least FAINTEST of full scale."""

FAINTEST = 0.02
RINGS = 8
TINY = 1e-6


@dataclass(frozen=True)
class _Shape:
    """An ellipse of the area of a circle of its radius: middle (N, 2), direction (N,), axis ratio (N,)."""

    middle: Tensor
    angle: Tensor
    axis_ratio: Tensor


def measure(rgb: Tensor) -> Tensor:
    """Measure the galaxy in the middle of each picture.

    Parameters
    ----------
    rgb
        (N, 3, h, h) in 0..1.

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
    with torch.autocast(rgb.device.type, enabled=False):
        rgb = rgb.float()
        light, scatter = _above_sky(rgb.mean(dim=1))
        side = light.shape[-1]
        x, y = _grid(side, light)
        outline = _outline(light, scatter)
        inside = light * outline
        flux = inside.sum((1, 2)).clamp_min(TINY)
        shape = _shape(inside.clamp_min(0), x, y)
        of_outline = _shape(outline, x, y)
        along, across = _turned(shape, x, y)
        q = shape.axis_ratio[:, None, None]
        radius = (along**2 * q + across**2 / q).sqrt()
        radii = _radii(radius, inside, (0.2, 0.5, 0.8))
        r20, r50, r80 = radii.unbind(1)
        ring, profile = _profile(radius, light, outline, r80)
        fourier, spirals = _fourier(radius, torch.atan2(across, along), inside, r50, r80)
        area = outline.sum((1, 2))
        columns = [
            (flux / side**2).clamp_min(1e-4).log(),
            (area / side**2).clamp_min(1e-4).log(),
            shape.axis_ratio,
            of_outline.axis_ratio,
            area / side**2 / (math.pi * r80.square()),
            *radii.log().unbind(1),
            5 * (r80 / r20).log10(),
            *_asymmetries(light, outline, shape.middle, flux),
            ((light - _smooth(light, side * SMOOTHING)).abs() * outline).sum((1, 2)) / flux,
            _gini(inside, outline),
            _m20(inside.clamp_min(0), shape, x, y),
            *_colours(rgb, outline, radius, r50),
            ((light - ring).abs() * outline).sum((1, 2)) / flux,
            *fourier,
            *spirals,
            *(profile / profile[:, :2].mean(1, keepdim=True).clamp_min(0.01)).clamp(-1, 3).unbind(1),
        ]
        return torch.stack(columns, dim=1).nan_to_num().clamp(-10, 10)


def _above_sky(light: Tensor) -> tuple[Tensor, Tensor]:
    """The picture without its sky, and the sky's scatter (N,): median and median deviation of the border."""
    width = max(1, round(light.shape[-1] * BORDER))
    rows = torch.cat([light[:, :width], light[:, -width:]], dim=1).flatten(1)
    columns = torch.cat([light[:, :, :width], light[:, :, -width:]], dim=2).flatten(1)
    border = torch.cat([rows, columns], dim=1)
    sky = border.median(dim=1, keepdim=True).values
    scatter = 1.4826 * (border - sky).abs().median(dim=1).values
    return light - sky[:, :, None], scatter


def _grid(side: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """x to the right and y down of every pixel from the middle, in units of the side; (1, h, h) each."""
    places = (torch.arange(side, device=like.device, dtype=like.dtype) - (side - 1) / 2) / side
    return places.view(1, 1, -1).expand(1, side, side), places.view(1, -1, 1).expand(1, side, side)


def _smooth(light: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=light.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(light.dtype)
    image = functional.pad(light[:, None], (reach,) * 4, mode="replicate")
    image = functional.conv2d(image, kernel.view(1, 1, 1, -1))
    return functional.conv2d(image, kernel.view(1, 1, -1, 1))[:, 0]


def _outline(light: Tensor, scatter: Tensor) -> Tensor:
    """(N, h, h) of 0 and 1: what hangs together with the brightest place near the middle, above the sky."""
    side = light.shape[-1]
    smooth = _smooth(light, side * SMOOTHING)
    bright = (smooth > (SIGMAS * scatter).clamp_min(FAINTEST)[:, None, None]).to(light.dtype)
    x, y = _grid(side, light)
    middle = ((x**2 + y**2).sqrt() < 1.5 / 16).to(light.dtype)
    bright = torch.maximum(bright, middle * (smooth >= (smooth * middle).amax((1, 2), keepdim=True)))
    return _flood(bright, bright * middle)


def _flood(open_: Tensor, seed: Tensor) -> Tensor:
    """All of `open_` (N, h, h) of 0 and 1 that hangs together with `seed` by sides of pixels.

    Along rows, then along columns, every open stretch that holds a flooded pixel is flooded as a whole; that is done
    after as many rounds as the way to the farthest pixel has corners.
    """
    for _ in range(open_.shape[-1]):
        before = seed
        for _ in range(2):
            seed = _flood_rows(open_, seed).transpose(1, 2)
            open_ = open_.transpose(1, 2)
        if torch.equal(seed, before):
            break
    return seed


def _flood_rows(open_: Tensor, seed: Tensor) -> Tensor:
    stretch = (1 - open_).cumsum(dim=2).long()  # rises by one at each closed pixel, so that a stretch has one number
    count = open_.new_zeros((*open_.shape[:2], open_.shape[2] + 1)).scatter_add(2, stretch, seed)
    return (count.gather(2, stretch) > 0) * open_


def _shape(weight: Tensor, x: Tensor, y: Tensor) -> _Shape:
    """From the second moments of the light; the middle is that of the squared light, so that it stays in the core."""

    def mean(values: Tensor, weight: Tensor = weight) -> Tensor:
        return (weight * values).sum((1, 2)) / weight.sum((1, 2)).clamp_min(TINY)

    middle = torch.stack([mean(x, weight.square()), mean(y, weight.square())], dim=1)
    dx, dy = x - middle[:, 0, None, None], y - middle[:, 1, None, None]
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    pixel = 1 / (12 * x.shape[-1] ** 2)  # a lone pixel is a square, not a point
    size, length = xx + yy + 2 * pixel, ((xx - yy).square() + 4 * xy.square()).sqrt()
    axis_ratio = ((size - length) / (size + length)).clamp(1e-3, 1).sqrt()
    return _Shape(middle, 0.5 * torch.atan2(2 * xy, xx - yy), axis_ratio)


def _turned(shape: _Shape, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Places along the major and the minor axis."""
    dx, dy = x - shape.middle[:, 0, None, None], y - shape.middle[:, 1, None, None]
    cosine, sine = torch.cos(shape.angle)[:, None, None], torch.sin(shape.angle)[:, None, None]
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _radii(radius: Tensor, inside: Tensor, shares: tuple[float, ...]) -> Tensor:
    """(N, shares) elliptical radii that hold these shares of the light; at least half a pixel."""
    order = radius.flatten(1).argsort(dim=1)
    light = inside.flatten(1).gather(1, order).cumsum(dim=1)
    total = light[:, -1:].clamp_min(TINY)
    wanted = total * torch.tensor(shares, device=radius.device, dtype=radius.dtype)
    place = torch.searchsorted(light.cummax(dim=1).values.contiguous(), wanted.contiguous())
    sorted_radius = radius.flatten(1).gather(1, order)
    return sorted_radius.gather(1, place.clamp_max(light.shape[1] - 1)).clamp_min(0.5 / radius.shape[-1])


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


def _m20(inside: Tensor, shape: _Shape, x: Tensor, y: Tensor) -> Tensor:
    """log10 of the second moment of the brightest fifth of the light over that of all."""
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
