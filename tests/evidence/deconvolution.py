"""Classical deconvolution with the known kernel, by scikit-image, on each band of each stamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.restoration import richardson_lucy, wiener
from torch import Tensor

from galaxy_models.degradation import Degradation, gaussian_kernel

Image = NDArray[np.float32]


@dataclass(frozen=True)
class RichardsonLucy:
    """Richardson (1972) and Lucy (1974), stopped early.

    Attributes
    ----------
    pedestal
        Added before and taken away after, in units of the noise. The method is for counts: negative pixels have no
        place in it, and to cut them off would bias every flux. A pedestal of p also says that the noise is not the
        source's own: the higher, the more equal pixels count, as the sky's noise has it.
    iterations
        After many the noise is fitted.
    """

    pedestal: float
    iterations: int

    def restore(self, image: Image, width: float, noise: float) -> Image:
        """(H, W) fluxes, blurred by a Gaussian of `width` pixels and with `noise` a pixel, to (H, W)."""
        raised = np.maximum(image + self.pedestal * noise, 1e-3 * noise)
        padded, kernel, half = _padded(raised, width)
        sharp = richardson_lucy(padded, kernel, num_iter=self.iterations, clip=False)
        return np.asarray(_cropped(sharp, half) - self.pedestal * noise)


@dataclass(frozen=True)
class Wiener:
    """The filter that is best for a Gaussian process, with scikit-image's Laplacian prior.

    Attributes
    ----------
    balance
        Weight of the prior, in units of the noise's variance over the image's own.
    """

    balance: float

    def restore(self, image: Image, width: float, noise: float) -> Image:
        """See `RichardsonLucy.restore`."""
        padded, kernel, half = _padded(image, width)
        signal = max(float(np.mean(image.astype(np.float64) ** 2)) - noise**2, 1e-2 * noise**2)
        return np.asarray(_cropped(wiener(padded, kernel, self.balance * noise**2 / signal, clip=False), half))


def restored(method: RichardsonLucy | Wiener, images: Tensor, degradation: Degradation) -> Tensor:
    """(N, C, H, W) images, each band with its own kernel."""
    result = torch.empty_like(images)
    for row, bands in enumerate(images.numpy()):
        for band, image in enumerate(bands):
            width, noise = float(degradation.width[row, band]), float(degradation.noise[row, band])
            sharp = method.restore(image, width, noise)
            result[row, band] = torch.from_numpy(np.ascontiguousarray(sharp, dtype=np.float32))
    return result


def _padded(image: Image, width: float) -> tuple[Image, Image, int]:
    """The image with mirrored edges, as it was blurred, the kernel, and how far the edges reach.

    They reach farther than the kernel: scikit-image takes what lies beyond for dark, and that creeps inwards.
    """
    half = int(4 * width + 1)
    kernel = gaussian_kernel(torch.tensor(width), 2 * half + 1).numpy()
    border = half + 6
    return np.pad(image, border, mode="symmetric"), kernel, border


def _cropped(image: Image, border: int) -> Image:
    return image[border:-border, border:-border]
