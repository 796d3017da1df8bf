"""Masked-image modelling: what is hidden, and how well it is guessed (SimMIM, Xie et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def random_masks(
    count: int, height: int, width: int, patch: int, fraction: float, generator: torch.Generator
) -> Tensor:
    """Masks of whole patches, the same number hidden in each image.

    Parameters
    ----------
    patch
        Side of a patch, pixels. Patches are laid from the top left corner; those at the far borders may be cut.
    fraction
        Share of the patches that is hidden, rounded to whole patches, at least one and never all.
    generator
        Source of all randomness; the masks lie on its device.

    Returns
    -------
    Tensor
        (count, 1, height, width) bool, true where hidden.

    Raises
    ------
    ValueError
        If the image has a single patch.
    """
    rows, columns = -(-height // patch), -(-width // patch)
    patches = rows * columns
    if patches < 2:
        raise ValueError(f"patches of {patch} px leave nothing to see in an image of {height} x {width} px")
    hidden = min(max(round(fraction * patches), 1), patches - 1)
    order = torch.rand(count, patches, generator=generator, device=generator.device).argsort(dim=1)
    masks = torch.zeros(count, patches, dtype=torch.bool, device=generator.device)
    masks.scatter_(1, order[:, :hidden], True)
    masks = masks.view(count, 1, rows, columns)
    return masks.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[..., :height, :width]


def masked_l1(reconstruction: Tensor, target: Tensor, hidden: Tensor, normalised_patch: int | None = None) -> Tensor:
    """Mean absolute error over hidden pixels only, of all images and channels.

    Parameters
    ----------
    reconstruction, target
        (N, C, H, W).
    hidden
        (N, 1, H, W) bool.
    normalised_patch
        Compare with a target whose patches of this size have mean 0 and variance 1, which weighs faint structure
        as much as bright cores (He et al. 2022). The network's output is then no picture.
    """
    if normalised_patch is not None:
        target = normalise_patches(target, normalised_patch)
    error = (reconstruction - target).abs() * hidden
    return error.sum() / (hidden.sum() * target.shape[1]).clamp_min(1)


def masked_errors(reconstruction: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Mean absolute error over the hidden pixels of each image, (N,)."""
    error = ((reconstruction - target).abs() * hidden).flatten(1).sum(dim=1)
    return error / (hidden.flatten(1).sum(dim=1) * target.shape[1]).clamp_min(1)


def normalise_patches(images: Tensor, patch: int) -> Tensor:
    """Each patch of `patch` x `patch` pixels and each channel to mean 0 and variance 1. Sides must be multiples."""
    mean = functional.avg_pool2d(images, patch)
    variance = functional.avg_pool2d(images.square(), patch) - mean.square()
    mean, variance = (x.repeat_interleave(patch, 2).repeat_interleave(patch, 3) for x in (mean, variance))
    return (images - mean) / (variance.clamp_min(0) + 1e-6).sqrt()


def show_hidden(images: Tensor, hidden: Tensor, grey: float = 0.35) -> Tensor:
    """The images with hidden pixels painted grey, for people."""
    return images.masked_fill(hidden, grey)


def fill_hidden(images: Tensor, reconstruction: Tensor, hidden: Tensor) -> Tensor:
    """The images with hidden pixels taken from the reconstruction, clipped to 0..1."""
    return torch.where(hidden, reconstruction.clamp(0, 1), images)
