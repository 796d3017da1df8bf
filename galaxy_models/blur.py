"""Blur by an exact variance, of every image and band by its own, and what it leaves of the noise.

The kernel is the discrete Gaussian (Lindeberg 1990), G_t(m) = exp(-t) I_m(t) with I_m the modified Bessel function. A
Gaussian that is sampled at the pixels' centres is too narrow below half a pixel; this one has the variance t at every
width, and two blurs after each other are exactly one of the summed variance, as adding in quadrature supposes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_blur(images: Tensor, variance: Tensor) -> Tensor:
    """Blur each image and band; the edge is mirrored, so that the summed flux is kept.

    Parameters
    ----------
    images
        (N, C, H, W).
    variance
        (N, C) of the kernel along each axis, square pixels; 0 leaves an image as it is.

    Returns
    -------
    Tensor
        (N, C, H, W) float32.
    """
    height, width = images.shape[-2:]
    down = _mirrored_kernel(variance, height)
    along = down if width == height else _mirrored_kernel(variance, width)
    blurred: Tensor = down @ images.float() @ along
    return blurred


def noise_left(variance: Tensor, interpolation: Tensor | float = 0.0) -> Tensor:
    """Share of white noise's standard deviation that interpolation and then `gaussian_blur` leave.

    Parameters
    ----------
    variance
        Of the blur along each axis, square pixels.
    interpolation
        Variance of a bilinear interpolation before it along each axis, square pixels, as `interpolation_blur` gives it.

    Notes
    -----
    Along one axis interpolation at a fraction f of a pixel leaves the variance (1 - f)^2 + f^2 and the covariance
    f (1 - f) of neighbours, on average 1 - 2 v and v with v the mean of f (1 - f). Through the kernel G_t passes, along
    this axis, the share (1 - 2 v) sum_m G_t(m)^2 + 2 v sum_m G_t(m) G_t(m + 1) of the variance, and the sums are
    exp(-2 t) I_0(2 t) and exp(-2 t) I_1(2 t). Both axes together give the square of it, and its root is the share of
    the standard deviation. Noise that was correlated to begin with keeps more.
    """
    same, neighbour = torch.special.i0e(2 * variance), torch.special.i1e(2 * variance)
    left: Tensor = (1 - 2 * interpolation) * same + 2 * interpolation * neighbour
    return left


def _mirrored_kernel(variance: Tensor, length: int) -> Tensor:
    """(..., length, length) symmetric matrices that blur a line of pixels whose ends are mirrored."""
    wave = torch.arange(length + 1, device=variance.device, dtype=torch.float32) * (math.pi / length)
    # mirrored, a line repeats after twice its length, and so may its kernel
    kernel = torch.fft.irfft(torch.exp(-variance.float()[..., None] * (1 - torch.cos(wave))), n=2 * length)
    place = torch.arange(length, device=variance.device)
    direct = (place[:, None] - place[None, :]).abs()
    mirrored = place[:, None] + place[None, :] + 1
    matrices: Tensor = kernel[..., direct] + kernel[..., mirrored]
    return matrices
