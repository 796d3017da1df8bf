"""Where the galaxy in the middle of a picture is: what hangs together above the sky, and the ellipse that it fills."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BORDER = 1 / 16
"""Share of the side, along each edge, that counts as sky."""

SMOOTHING = 1 / 48
"""Gaussian sigma, share of the side, of the picture in which the outline is drawn."""

SIGMAS = 1.5
"""Of the sky's scatter, above which smoothed pixels belong to the galaxy; and at least FAINTEST of full scale."""

FAINTEST = 0.02

SHARES = (0.2, 0.5, 0.8)
"""Of the light, within the radii."""

TINY = 1e-6


@dataclass(frozen=True)
class Shape:
    """An ellipse: middle (N, 2) from that of the picture, direction (N,) in radians, axis ratio (N,)."""

    middle: Tensor
    angle: Tensor
    axis_ratio: Tensor


@dataclass(frozen=True)
class Outlined:
    """A batch of pictures, each with its galaxy found. Lengths are in units of the picture's side.

    Attributes
    ----------
    rgb
        (N, 3, h, h) in 0..1, as given.
    light
        (N, h, h) mean of the channels above the sky.
    outline
        (N, h, h), 1 within the galaxy and 0 elsewhere.
    shape
        That of the light within.
    along, across, radius
        (N, h, h) place of each pixel along the major and the minor axis of `shape`, from its middle, and the elliptical
        radius.
    radii
        (N, 3) r20, r50 and r80: elliptical radii that hold these shares of the light.
    """

    rgb: Tensor
    light: Tensor
    outline: Tensor
    shape: Shape
    along: Tensor
    across: Tensor
    radius: Tensor
    radii: Tensor

    @property
    def inside(self) -> Tensor:
        """(N, h, h) the light within the outline."""
        return self.light * self.outline


def outlined(rgb: Tensor) -> Outlined:
    """Find the galaxy in the middle of each picture.

    Parameters
    ----------
    rgb
        (N, 3, h, h) in 0..1.
    """
    with torch.autocast(rgb.device.type, enabled=False):
        rgb = rgb.float()
        light, scatter = above_sky(rgb.mean(dim=1))
        outline = _outline(light, scatter)
        inside = light * outline
        shape = shape_of(inside.clamp_min(0))
        along, across = _turned(shape, light)
        q = shape.axis_ratio[:, None, None]
        radius = (along**2 * q + across**2 / q).sqrt()
        return Outlined(rgb, light, outline, shape, along, across, radius, _radii(radius, inside))


def above_sky(light: Tensor) -> tuple[Tensor, Tensor]:
    """The picture without its sky, and the sky's scatter (N,): median and median deviation of the border."""
    width = max(1, round(light.shape[-1] * BORDER))
    rows = torch.cat([light[:, :width], light[:, -width:]], dim=1).flatten(1)
    columns = torch.cat([light[:, :, :width], light[:, :, -width:]], dim=2).flatten(1)
    border = torch.cat([rows, columns], dim=1)
    sky = border.median(dim=1, keepdim=True).values
    scatter = 1.4826 * (border - sky).abs().median(dim=1).values
    return light - sky[:, :, None], scatter


def grid(light: Tensor) -> tuple[Tensor, Tensor]:
    """x to the right and y down of every pixel of (N, h, h) from the middle, in units of the side; (1, h, h) each."""
    side = light.shape[-1]
    places = (torch.arange(side, device=light.device, dtype=light.dtype) - (side - 1) / 2) / side
    return places.view(1, 1, -1).expand(1, side, side), places.view(1, -1, 1).expand(1, side, side)


def smoothed(light: Tensor, sigma: float) -> Tensor:
    """(N, h, h), under a Gaussian of `sigma` pixels."""
    reach = max(1, math.ceil(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=light.device) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(light.dtype)
    image = functional.pad(light[:, None], (reach,) * 4, mode="replicate")
    image = functional.conv2d(image, kernel.view(1, 1, 1, -1))
    return functional.conv2d(image, kernel.view(1, 1, -1, 1))[:, 0]


def _outline(light: Tensor, scatter: Tensor) -> Tensor:
    """(N, h, h) of 0 and 1: what hangs together with the brightest place near the middle, above the sky."""
    side = light.shape[-1]
    smooth = smoothed(light, side * SMOOTHING)
    bright = (smooth > (SIGMAS * scatter).clamp_min(FAINTEST)[:, None, None]).to(light.dtype)
    x, y = grid(light)
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


def shape_of(weight: Tensor) -> Shape:
    """Of (N, h, h) light, by its second moments; the middle is that of its square, so that it stays in the core."""
    x, y = grid(weight)

    def mean(values: Tensor, weight: Tensor = weight) -> Tensor:
        return (weight * values).sum((1, 2)) / weight.sum((1, 2)).clamp_min(TINY)

    middle = torch.stack([mean(x, weight.square()), mean(y, weight.square())], dim=1)
    dx, dy = x - middle[:, 0, None, None], y - middle[:, 1, None, None]
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    pixel = 1 / (12 * x.shape[-1] ** 2)  # a lone pixel is a square, not a point
    size, length = xx + yy + 2 * pixel, ((xx - yy).square() + 4 * xy.square()).sqrt()
    axis_ratio = ((size - length) / (size + length)).clamp(1e-3, 1).sqrt()
    return Shape(middle, 0.5 * torch.atan2(2 * xy, xx - yy), axis_ratio)


def _turned(shape: Shape, light: Tensor) -> tuple[Tensor, Tensor]:
    """Places along the major and the minor axis."""
    x, y = grid(light)
    dx, dy = x - shape.middle[:, 0, None, None], y - shape.middle[:, 1, None, None]
    cosine, sine = torch.cos(shape.angle)[:, None, None], torch.sin(shape.angle)[:, None, None]
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _radii(radius: Tensor, inside: Tensor) -> Tensor:
    """(N, 3) elliptical radii that hold `SHARES` of the light; at least half a pixel."""
    order = radius.flatten(1).argsort(dim=1)
    light = inside.flatten(1).gather(1, order).cumsum(dim=1)
    total = light[:, -1:].clamp_min(TINY)
    wanted = total * torch.tensor(SHARES, device=radius.device, dtype=radius.dtype)
    place = torch.searchsorted(light.cummax(dim=1).values.contiguous(), wanted.contiguous())
    sorted_radius = radius.flatten(1).gather(1, order)
    return sorted_radius.gather(1, place.clamp_max(light.shape[1] - 1)).clamp_min(0.5 / radius.shape[-1])
