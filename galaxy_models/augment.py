"""What may happen to a stamp without making it another galaxy: turned, mirrored, shifted, resized, observed anew.

Everything works on a whole batch, on the generator's device, each stamp with draws of its own. The order is that of
nature and telescope: geometry, dust, seeing, noise, then the stretch to RGB, and last what only a display knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .blur import gaussian_blur
from .inputs import InputSpec
from .reobserve import Chances, Reobservation, reobserve


@dataclass(frozen=True)
class Augmentation:
    """How strong each change is; 0 turns it off.

    Attributes
    ----------
    rotation
        Largest turn either way, degrees; 180 gives every orientation alike.
    shift
        Largest shift along each axis, pixels of the stamp.
    resize
        Largest relative change of size; 0.1 draws from 0.9 to 1.1.
    mirror
        Chance of a left-right mirror image.
    brightness, colour
        Largest relative change of all channels together, and of each by itself, after the stretch.
    noise
        Largest standard deviation of added noise, RGB units.
    blur
        Largest sigma of a blur of the picture, pixels of the stamp.
    reddening, seeing, depth
        Chance that a stamp's Galactic dust, PSF and noise are drawn anew from the survey (`reobserve`). They take
        effect on fluxes whose survey is known. A picture has no fluxes: `noise`, `colour` and `blur`, in display space,
        are what it can have in their place.
    """

    rotation: float = 180.0
    shift: float = 4.0
    resize: float = 0.1
    mirror: float = 0.5
    brightness: float = 0.1
    colour: float = 0.05
    noise: float = 0.01
    blur: float = 0.0
    reddening: float = 1.0
    seeing: float = 1.0
    depth: float = 1.0


@dataclass(frozen=True)
class Geometry:
    """Where each of N stamps is looked at.

    A stamp is mirrored left to right, turned counter-clockwise as seen with row 0 on top, made larger
    and then shifted right and down.

    Attributes
    ----------
    mirror
        (N,) bool.
    angle
        (N,) degrees.
    scale
        (N,) factor; 2 shows the galaxy twice as large.
    shift
        (N, 2) pixels to the right and down.
    """

    mirror: Tensor
    angle: Tensor
    scale: Tensor
    shift: Tensor


def random_geometry(count: int, augmentation: Augmentation, generator: torch.Generator) -> Geometry:
    """Draw a geometry for each of `count` stamps."""

    def uniform(*shape: int) -> Tensor:  # -1..1
        return torch.rand(*shape, generator=generator, device=generator.device) * 2 - 1

    return Geometry(
        mirror=(uniform(count) + 1) / 2 < augmentation.mirror,
        angle=uniform(count) * augmentation.rotation,
        scale=1 + uniform(count) * augmentation.resize,
        shift=uniform(count, 2) * augmentation.shift,
    )


def transform(images: Tensor, geometry: Geometry, size: int, mode: str = "bilinear") -> Tensor:
    """Look at the middle of each stamp through its geometry, in one resampling.

    The whole stamp is at hand, so that a turned crop finds real sky in its corners; beyond the stamp's border
    the sky is mirrored. Surface brightness is kept: a source shown larger by s has s^2 times the summed flux.

    Parameters
    ----------
    images
        (N, C, H, W) of any units. Masks too, with `mode` "nearest".
    size
        Side of the result, pixels of the same scale.

    Returns
    -------
    Tensor
        (N, C, size, size) float32.
    """
    height, width = images.shape[-2:]
    grid = _places(geometry, height, width, size)
    return functional.grid_sample(images.float(), grid, mode=mode, padding_mode="reflection", align_corners=False)


def interpolation_blur(geometry: Geometry, height: int, width: int, size: int) -> Tensor:
    """How much the resampling of `transform` blurs each stamp of `height` x `width` pixels.

    Returns
    -------
    Tensor
        (N,) variance that is added along each axis, square pixels of the stamp: the mean of f (1 - f) over the result,
        with f the fraction of a pixel at which a value is interpolated. 1/6 for a turn, 0 where pixels fall on pixels.
    """
    grid = _places(geometry, height, width, size)
    place = (grid + 1) * torch.tensor([width / 2, height / 2], device=grid.device) - 0.5
    fraction = place - place.floor()
    return (fraction * (1 - fraction)).mean(dim=(1, 2, 3))


def _places(geometry: Geometry, height: int, width: int, size: int) -> Tensor:
    """(N, size, size, 2): where each pixel of the result lies in the stamp, x and y, -1..1 from border to border."""
    angle = torch.deg2rad(geometry.angle)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    sign = 1 - 2 * geometry.mirror.to(cosine.dtype)
    # from a place in the result (x right, y down, from the centre) back to the stamp
    back = torch.stack([torch.stack([sign * cosine, -sign * sine], -1), torch.stack([sine, cosine], -1)], 1)
    back = back / geometry.scale[:, None, None]
    offset = -(back @ geometry.shift[:, :, None])
    half_stamp = torch.tensor([width / 2, height / 2], device=angle.device)[:, None]
    theta = torch.cat([back * (size / 2), offset], dim=2) / half_stamp
    return functional.affine_grid(theta, [len(angle), 1, size, size], align_corners=False)


def jitter_colours(rgb: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Scale the brightness of each image and, a little, of each of its channels; (N, 3, H, W) stays in 0..1."""
    draws = torch.rand(len(rgb), 4, generator=generator, device=generator.device) * 2 - 1
    factor = (1 + draws[:, :1] * augmentation.brightness) * (1 + draws[:, 1:] * augmentation.colour)
    return (rgb * factor[:, :, None, None]).clamp(0, 1)


def add_noise(images: Tensor, sigma: Tensor | float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise, independent from pixel to pixel.

    Parameters
    ----------
    images
        (N, C, H, W), fluxes or RGB.
    sigma
        Standard deviation in the same units; a number, or (N,) or (N, C).
    """
    spread = torch.as_tensor(sigma, dtype=images.dtype, device=images.device)
    spread = spread.reshape(*spread.shape, *[1] * (4 - spread.ndim)) if spread.ndim else spread
    noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
    return images + noise * spread


def augmented_input(
    stamps: Tensor,
    units: str,
    inputs: InputSpec,
    augmentation: Augmentation,
    generator: torch.Generator,
    observation: Reobservation | None = None,
    geometry: Geometry | None = None,
) -> Tensor:
    """A new look at each stamp, as the network sees it: `InputSpec.to_network` with the changes in their places.

    Parameters
    ----------
    stamps
        (N, C, H, W) as the stamp store has them: nanomaggies, or RGB as uint8 or 0..1. On the generator's device.
    observation
        Of these stamps; without it dust, seeing and noise stay as they are. Only of nanomaggies.
    geometry
        Where each stamp is looked at; by default drawn first of all.

    Returns
    -------
    Tensor
        (N, 3, crop / binning, crop / binning) float32 in 0..1.
    """
    if observation is not None and units != "nanomaggy":
        raise ValueError(
            f"stamps in units of {units!r} have no fluxes and cannot be observed anew; give no observation"
        )
    stamps = stamps.float() / 255 if stamps.dtype == torch.uint8 else stamps.float()
    with torch.autocast(stamps.device.type, enabled=False):  # whatever the network runs in
        geometry = geometry or random_geometry(len(stamps), augmentation, generator)
        views = transform(stamps, geometry, inputs.crop)
        if observation is not None:
            chances = Chances(augmentation.reddening, augmentation.seeing, augmentation.depth)
            height, width = stamps.shape[-2:]
            views = reobserve(
                views,
                inputs.bands,
                observation,
                generator,
                chances=chances,
                magnification=geometry.scale,
                interpolation=interpolation_blur(geometry, height, width, inputs.crop),
            )
        rgb = jitter_colours(inputs.to_rgb(views, units), augmentation, generator)
        if augmentation.blur:
            sigma = torch.rand(len(rgb), 1, generator=generator, device=generator.device) * augmentation.blur
            rgb = gaussian_blur(rgb, (sigma**2).expand(-1, 3))
        if augmentation.noise:
            sigma = torch.rand(len(rgb), generator=generator, device=generator.device) * augmentation.noise
            rgb = add_noise(rgb, sigma, generator).clamp(0, 1)
        return inputs.bin(rgb)
