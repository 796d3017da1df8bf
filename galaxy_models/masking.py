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
    mean, spread = (_enlarged(each, patch) for each in _of_patches(images, patch))
    return (images - mean) / spread


def denormalise_patches(normalised: Tensor, images: Tensor, hidden: Tensor, patch: int) -> Tensor:
    """A picture of normalised patches, by what is visible of the image: no hidden pixel is looked at.

    Parameters
    ----------
    normalised
        (N, C, H, W), as if from `normalise_patches`.
    images
        (N, C, H, W) that they belong to.
    hidden
        (N, 1, H, W) bool, whole patches.

    Returns
    -------
    Tensor
        (N, C, H, W). A visible patch gets its own mean and spread; a hidden one those of all visible patches, weighted
        by distance^-4, so that the nearest count most and there always are some. A hidden core comes out too faint.
    """
    statistics = torch.stack(_of_patches(images, patch))  # (2, N, C, rows, columns)
    rows, columns = statistics.shape[-2:]
    seen = (functional.max_pool2d(hidden.to(images.dtype), patch) == 0).to(images.dtype)
    row, column = torch.meshgrid(
        torch.arange(rows, device=images.device), torch.arange(columns, device=images.device), indexing="ij"
    )
    squared = (row.flatten()[:, None] - row.flatten()) ** 2 + (column.flatten()[:, None] - column.flatten()) ** 2
    weights = squared.clamp_min(1).to(images.dtype) ** -2
    around = (statistics * seen).flatten(-2) @ weights / (seen.flatten(-2) @ weights)
    mean, spread = torch.where(seen > 0, statistics, around.view_as(statistics))
    return normalised * _enlarged(spread, patch) + _enlarged(mean, patch)


def _of_patches(images: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """Mean and spread of each patch and channel, (N, C, H / patch, W / patch); the spread is at least 0.001."""
    mean = functional.avg_pool2d(images, patch)
    variance = functional.avg_pool2d(images.square(), patch) - mean.square()
    return mean, (variance.clamp_min(0) + 1e-6).sqrt()


def _enlarged(of_patches: Tensor, patch: int) -> Tensor:
    return of_patches.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def show_hidden(images: Tensor, hidden: Tensor, grey: float = 0.35) -> Tensor:
    """The images with hidden pixels painted grey, for people."""
    return images.masked_fill(hidden, grey)


def fill_hidden(images: Tensor, reconstruction: Tensor, hidden: Tensor) -> Tensor:
    """The images with hidden pixels taken from the reconstruction, clipped to 0..1."""
    return torch.where(hidden, reconstruction.clamp(0, 1), images)
