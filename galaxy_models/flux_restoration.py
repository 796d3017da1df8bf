"""Restoration of fluxes whose seeing and noise are known: undo the blur as far as noise allows, then let a network.

A survey tells the PSF and the noise of every stamp, so that a network need not guess them. The blur is undone by a
filter that knows both; what it leaves, coloured noise and lost detail, a network learns to correct, on values that are
stretched so that the noise is one everywhere and that give the fluxes back exactly. Sureau et al. (2020) do likewise
with a Tikhonov filter and a U-Net. Nothing is clipped: the viewer's stretch, which other tasks see, would lose cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from .degradation import SEEING, Degradation
from .inputs import centre

SHARPEST = min(fit.low for fit in SEEING.values())
"""Sigma of the PSF of the sharpest images that are restored to, pixels: finer detail is not there to be found."""

EXTENT, SLOPE = 0.02, 1.5
"""Expected power of galaxies: (1 + (frequency / extent)^2)^-slope, frequency in cycles per pixel. With `SIGNIFICANCE`
and `NEIGHBOURHOOD` chosen among some forty values by the PSNR of simulated galaxies that no test has."""

LADDER = (64.0, 16.0, 4.0, 1.0, 1 / 4, 1 / 16, 1 / 64)
"""Strengths of regularisation, in units of the noise's variance; 1 alone would be Wiener's."""

SIGNIFICANCE = 2.5
"""Detail is kept where its power is so many times that of noise; more than one, since the power is an estimate."""

NEIGHBOURHOOD = 2.5
"""Sigma of the Gaussian within which the power of detail is estimated, pixels."""

LARGEST = 16.0
"""Of a stretched value, four million times the noise: an untrained network cannot overflow."""


def deconvolve(flux: Tensor, degradation: Degradation) -> Tensor:
    """Undo a Gaussian blur: strongly regularised where an image shows sky, weakly in the cores.

    A Wiener filter H P / (H^2 P + r n^2), with H the kernel's transfer, n the noise, P a galaxy's expected power and
    r = 1, is one for the whole image. Here the image is filtered with falling r, and each step's detail is kept in the
    share (1 - s n_d^2 / p) of its local power p that is not noise, n_d^2 the noise of the filtered difference, s the
    significance. Neelamani et al. (2004) shrink in wavelets after a weak filter for the same reason.

    Edges are mirrored as `degradation.convolve` has them, which makes the filter exact there too.

    Parameters
    ----------
    flux
        (N, C, H, W), blurred by Gaussians of `degradation.width` and with white noise of `degradation.noise`.

    Returns
    -------
    Tensor
        (N, C, H, W) float32.
    """
    height, width = flux.shape[-2:]
    modes, squared, weight = _modes(flux.float())
    size = (2 * height, 2 * width)
    noise = degradation.noise.to(flux.device).square()[..., None, None]
    blur = torch.exp(-2 * math.pi**2 * squared * degradation.width.to(flux.device).square()[..., None, None])
    shape = torch.exp(-4 * math.pi**2 * squared * SHARPEST**2) * (1 + squared / EXTENT**2) ** -SLOPE
    signal = (flux.float().square().mean(dim=(-2, -1), keepdim=True) - noise).clamp_min(1e-3 * noise)
    # the seen image has the blurred power: the prior is scaled so as to explain that one
    power = shape * signal / (shape * blur**2).mean(dim=(-2, -1), keepdim=True)
    around = torch.exp(-2 * math.pi**2 * squared * NEIGHBOURHOOD**2)
    before = blur * power / (blur**2 * power + LADDER[0] * noise)
    sharp = torch.fft.irfft2(modes * before, s=size)
    for strength in LADDER[1:]:
        transfer = blur * power / (blur**2 * power + strength * noise)
        step = transfer - before
        detail = torch.fft.irfft2(modes * step, s=size)
        of_noise = noise * (step**2 * weight).sum(dim=(-2, -1), keepdim=True)
        local = torch.fft.irfft2(torch.fft.rfft2(detail**2) * around, s=size)
        sharp = sharp + detail * (1 - SIGNIFICANCE * of_noise / local.clamp_min(1e-30)).clamp(0, 1)
        before = transfer
    return cast(Tensor, sharp[..., :height, :width])


def stretch(flux: Tensor, noise: Tensor) -> Tensor:
    """asinh(flux / noise): linear in the noise, logarithmic in the cores. (N, C, H, W) and (N, C) to (N, C, H, W)."""
    return torch.asinh(flux / noise[..., None, None])


def unstretch(values: Tensor, noise: Tensor) -> Tensor:
    """The fluxes that `stretch` was given."""
    return torch.sinh(values.clamp(-LARGEST, LARGEST)) * noise[..., None, None]


def restore_flux(
    restore: Callable[[Tensor], Tensor], flux: Tensor, degradation: Degradation, side: int | None = None
) -> Tensor:
    """Undo a known degradation.

    Seeing moves light about and makes none, so that what the network changes sums to zero over each stamp and band:
    else it learns a pedestal that is far below the noise of a pixel and yet several per cent of a faint galaxy's flux.

    Parameters
    ----------
    restore
        (N, 3, H, W) to the same, such as `MultiTaskNetwork.restore` of a network that was trained by `flux_loss`; an
        untrained one changes nothing, so that the deconvolution alone is what is returned.
    flux
        (N, 3, H, W) nanomaggies.
    side
        Of the square in the middle that is restored, pixels; all by default. What lies around it keeps a bright
        neighbour that its edge cuts through from ringing.

    Returns
    -------
    Tensor
        (N, 3, H, W) float32 nanomaggies, or (N, 3, side, side).
    """
    noise = degradation.noise.to(flux.device)
    sharp = centre(deconvolve(flux, degradation), side or flux.shape[-1])
    corrected = unstretch(restore(stretch(sharp, noise)).float(), noise)
    return corrected - (corrected - sharp).mean(dim=(-2, -1), keepdim=True)


def flux_loss(restored: Tensor, original: Tensor, noise: Tensor) -> Tensor:
    """Mean over stamps and bands of log10 of the mean squared error: minus a tenth of the PSNR, but for a constant.

    The logarithm lets bright and faint galaxies count alike (Chen et al. 2022 train on the PSNR for the same reason).

    Parameters
    ----------
    noise
        (N, C) of the degraded images; errors of less than a thousandth of it count as none.
    """
    error = (restored - original).square().mean(dim=(-2, -1))
    return torch.log10(error + (1e-3 * noise).square()).mean()


def _modes(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fourier modes of the mirrored images, (N, C, 2 H, W + 1), their squared frequency, and each one's share of all.

    Those beside the first and the last column stand for their conjugates too.
    """
    height, width = images.shape[-2:]
    mirrored = torch.cat([images, images.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    rows = torch.fft.fftfreq(2 * height, device=images.device)[:, None]
    columns = torch.fft.rfftfreq(2 * width, device=images.device)[None, :]
    share = torch.full((1, width + 1), 2.0, device=images.device)
    share[0, 0] = share[0, -1] = 1.0
    return torch.fft.rfft2(mirrored), rows**2 + columns**2, share / (4 * height * width)
