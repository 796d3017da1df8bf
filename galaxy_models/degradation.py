"""Worse seeing and more noise, as the Legacy Surveys have them: what restoration learns to undo.

On fluxes this is physics: PSF widths and noise levels (nanomaggies) follow the distributions that were fitted to
the survey's own catalogue (Stein et al. 2021, southern Legacy Surveys DR9). On display values (a published picture)
only the same operation can be done, which is no physics: such results are called display-space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .photometry import VIEWER_Q, VIEWER_SCALES, VIEWER_SOFTENING

FWHM_PER_SIGMA = 2.0 * (2.0 * 0.6931471805599453) ** 0.5
"""FWHM of a Gaussian in units of its sigma, 2 sqrt(2 ln 2)."""

SURVEY_PIXEL_SCALE = 0.262
"""Pixel scale that the seeing distributions are given at, arcsec per pixel."""

DISPLAY_BANDS = ("z", "r", "g")
"""The survey bands that R, G and B of a published picture show."""


@dataclass(frozen=True)
class ShiftedLognormal:
    """x = loc + scale exp(shape n) with n standard normal, clipped to low..high."""

    shape: float
    loc: float
    scale: float
    low: float
    high: float

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32."""
        normal = torch.randn(count, generator=generator, device=generator.device)
        return (self.loc + self.scale * torch.exp(self.shape * normal)).clamp(self.low, self.high)

    @property
    def median(self) -> float:
        """The value that half of the draws exceed."""
        return min(max(self.loc + self.scale, self.low), self.high)

    def scaled(self, factor: float) -> ShiftedLognormal:
        """The distribution of `factor` x, as in other units."""
        return replace(
            self,
            loc=factor * self.loc,
            scale=factor * self.scale,
            low=factor * self.low,
            high=factor * self.high,
        )


SEEING = {
    "g": ShiftedLognormal(0.2110, 1.0807, 1.3153, 1.32, 5.0),
    "r": ShiftedLognormal(0.3008, 1.2394, 0.9165, 1.27, 4.5),
    "z": ShiftedLognormal(0.3471, 1.1928, 0.8234, 1.21, 4.25),
}
"""Sigma of the PSF, in pixels of 0.262 arcsec, by band."""

NOISE = {
    "g": ShiftedLognormal(0.2265, -0.00067, 0.003760, 0.001094, 0.013),
    "r": ShiftedLognormal(0.2431, -0.00237, 0.006742, 0.001094, 0.018),
    "z": ShiftedLognormal(0.1335, -0.01434, 0.02608, 0.001094, 0.061),
}
"""Sigma of the noise of a pixel, nanomaggies, by band."""

REDDENING = ShiftedLognormal(0.67306, 0.001146, 0.03338, 0.0, 0.3)
"""Galactic E(B-V), magnitudes. The fit is published without limits; these are the simulation's."""


def gaussian_kernel(sigma: Tensor, size: int) -> Tensor:
    """Gaussian PSFs, each of sum one.

    Parameters
    ----------
    sigma
        (...,) pixels; 0 gives a single bright pixel.
    size
        Side, odd, pixels.

    Returns
    -------
    Tensor
        (..., size, size) float32.
    """
    squared = _squared_radius(size, sigma)
    width = sigma.clamp_min(1e-3)[..., None, None]
    return _unit_sum(torch.exp(-0.5 * squared / width**2))


def moffat_kernel(fwhm: Tensor, size: int, beta: float = 3.5) -> Tensor:
    """Moffat PSFs, each of sum one: (1 + (r / a)^2)^-beta with a = FWHM / (2 sqrt(2^(1/beta) - 1)).

    Parameters
    ----------
    fwhm
        (...,) pixels.
    size
        Side, odd, pixels.
    beta
        Slope of the wings; ground-based seeing has 2.5 to 4.5.

    Returns
    -------
    Tensor
        (..., size, size) float32.
    """
    radius = (fwhm.clamp_min(1e-3) / (2 * (2 ** (1 / beta) - 1) ** 0.5))[..., None, None]
    return _unit_sum((1 + _squared_radius(size, fwhm) / radius**2) ** -beta)


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image and band with its own kernel.

    The edge is mirrored, so that light neither enters nor leaves: with a symmetric kernel the sum is conserved.

    Parameters
    ----------
    images
        (N, C, H, W).
    kernels
        (N, C, k, k), k odd and at most min(H, W).

    Returns
    -------
    Tensor
        (N, C, H, W) float32.
    """
    size = kernels.shape[-1]
    height, width = images.shape[-2:]
    if size % 2 == 0 or size > min(height, width):
        raise ValueError(f"a kernel of {size} px must be odd and fit into {height} x {width} px")
    half = size // 2
    padded = images.float()[..., _mirrored(height, half), :][..., _mirrored(width, half)]
    shape = padded.shape[-2:]
    transform = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels.float(), s=shape)
    full: Tensor = torch.fft.irfft2(transform, s=shape)
    return full[..., size - 1 : size - 1 + height, size - 1 : size - 1 + width]


@dataclass(frozen=True)
class Degradation:
    """What is done to images, each and every band: known, so that it can be undone with the right kernel.

    Attributes
    ----------
    width
        (N, C) sigma of the Gaussian kernel, or the Moffat's of the same FWHM, pixels; 0 leaves an image as sharp.
    noise
        (N, C) noise of a pixel afterwards, if the image had less; its own units.
    """

    width: Tensor
    noise: Tensor

    def part(self, rows: slice) -> Degradation:
        """That of some of the images."""
        return Degradation(self.width[rows], self.noise[rows])

    def kernels(self, size: int, profile: str = "gaussian") -> Tensor:
        """(N, C, size, size) of sum one; `size` odd, pixels."""
        if profile == "gaussian":
            return gaussian_kernel(self.width, size)
        if profile == "moffat":
            return moffat_kernel(self.width * FWHM_PER_SIGMA, size)
        raise ValueError(f"a kernel's profile is 'gaussian' or 'moffat', not {profile!r}")

    def apply(
        self, images: Tensor, generator: torch.Generator, *, noise: Tensor | None = None, profile: str = "gaussian"
    ) -> Tensor:
        """Blur (N, C, H, W) images and add what white noise is missing.

        Parameters
        ----------
        noise
            (N, C) present noise of a pixel; none if not given, NaN likewise.
        """
        limit = (min(images.shape[-2:]) - 1) // 2 * 2 + 1
        size = min(limit, 2 * int(float(self.width.max()) * 4 + 1) + 1) if self.width.numel() else 1
        kernels = self.kernels(size, profile)
        present = torch.zeros_like(self.noise) if noise is None else torch.nan_to_num(noise.float())
        left = present * kernels.square().sum(dim=(-2, -1)).sqrt()
        extra = (self.noise**2 - left**2).clamp_min(0).sqrt()
        white = torch.randn(images.shape, generator=generator, device=generator.device)
        return convolve(images, kernels) + extra[..., None, None] * white


def degrade_flux(
    flux: Tensor,
    bands: Sequence[str],
    generator: torch.Generator,
    *,
    seeing: Tensor | None = None,
    noise: Tensor | None = None,
    pixel_scale: float | Tensor = SURVEY_PIXEL_SCALE,
    severity: float = 1.0,
    profile: str = "gaussian",
) -> Tensor:
    """The same galaxies under seeing and noise drawn from the survey, band by band.

    Widths add in quadrature: the kernel has sqrt(max(0, target^2 - present^2)), so an image that is already worse than
    the draw stays as it is. Noise likewise, after allowing for what the convolution smooths away.

    Parameters
    ----------
    flux
        (N, C, H, W) nanomaggies per pixel.
    bands
        C of g, r, z, in the order of the channels.
    generator
        Source of every draw, on the device of the images.
    seeing
        (N, C) sigma of the present PSF, pixels of the image; the survey's best if not given, NaN likewise.
    noise
        (N, C) present noise of a pixel, nanomaggies; none if not given, NaN likewise.
    pixel_scale
        Arcsec per pixel, of all images or (N,) of each.
    severity
        Factor on the drawn widths and noise: 1 is the survey itself, which half of its own images are worse than.
    profile
        `gaussian` or `moffat` for the kernel.

    Returns
    -------
    Tensor
        (N, C, H, W) float32 nanomaggies.
    """
    _check_bands(bands, flux.shape[1])
    drawn = draw_degradation(len(flux), bands, generator, seeing=seeing, pixel_scale=pixel_scale, severity=severity)
    return drawn.apply(flux, generator, noise=noise, profile=profile)


def draw_degradation(
    count: int,
    bands: Sequence[str],
    generator: torch.Generator,
    *,
    seeing: Tensor | None = None,
    pixel_scale: float | Tensor = SURVEY_PIXEL_SCALE,
    severity: float = 1.0,
) -> Degradation:
    """What `degrade_flux` does to `count` images; see there."""
    _check_bands(bands, len(bands))
    scale = torch.as_tensor(pixel_scale, dtype=torch.float32, device=generator.device)
    to_pixels = (SURVEY_PIXEL_SCALE / scale).expand(count)[:, None]
    wanted = torch.stack([SEEING[band].draw(count, generator) for band in bands], dim=1) * (severity * to_pixels)
    target = torch.stack([NOISE[band].draw(count, generator) for band in bands], dim=1) * severity
    best = wanted.new_tensor([SEEING[band].low for band in bands]) * to_pixels
    present = best if seeing is None else torch.where(seeing.isfinite(), seeing.float(), best)
    return Degradation((wanted**2 - present**2).clamp_min(0).sqrt(), target)


def known_degradation(
    seeing: Tensor, noise: Tensor, bands: Sequence[str], pixel_scale: float = SURVEY_PIXEL_SCALE
) -> Degradation:
    """What made images of the survey's sharpest ones (the least of `SEEING`), as if these had had no noise.

    Parameters
    ----------
    seeing
        (N, C) FWHM of the PSF, arcsec.
    noise
        (N, C) noise of a pixel, nanomaggies.
    pixel_scale
        Arcsec per pixel.
    """
    _check_bands(bands, seeing.shape[1])
    best = seeing.new_tensor([SEEING[band].low for band in bands]) * SURVEY_PIXEL_SCALE / pixel_scale
    width = ((seeing / FWHM_PER_SIGMA / pixel_scale) ** 2 - best**2).clamp_min(0).sqrt()
    return Degradation(width, noise)


def degrade_display(
    rgb: Tensor,
    generator: torch.Generator,
    *,
    noise: Tensor | None = None,
    profile: str = "gaussian",
) -> Tensor:
    """The operation of `degrade_flux` on display values: a look-alike, no physics.

    Widths are in pixels of the picture. The noise is the survey's, times the slope of the viewer's stretch at the
    sky; where a galaxy is bright a real stretch would show less of it.

    Parameters
    ----------
    rgb
        (N, 3, H, W) in 0..1.
    noise
        (N, 3) present noise of a pixel, display values; none if not given.

    Returns
    -------
    Tensor
        (N, 3, H, W) float32 in 0..1.
    """
    drawn = draw_display_degradation(len(rgb), generator)
    return drawn.apply(rgb, generator, noise=noise, profile=profile).clamp(0, 1)


def draw_display_degradation(count: int, generator: torch.Generator) -> Degradation:
    """What `degrade_display` does to `count` pictures; see there."""
    wanted = torch.stack([SEEING[band].draw(count, generator) for band in DISPLAY_BANDS], dim=1)
    best = wanted.new_tensor([SEEING[band].low for band in DISPLAY_BANDS])
    slope = wanted.new_tensor([_stretch_slope(band) for band in DISPLAY_BANDS])
    target = torch.stack([NOISE[band].draw(count, generator) for band in DISPLAY_BANDS], dim=1) * slope
    return Degradation((wanted**2 - best**2).clamp_min(0).sqrt(), target)


def _stretch_slope(band: str) -> float:
    """Display value per nanomaggy of the viewer's stretch where the flux is zero."""
    intensity = torch.tensor(VIEWER_SOFTENING)
    return VIEWER_SCALES[band] * float(torch.asinh(VIEWER_Q * intensity) / (VIEWER_Q**0.5 * intensity))


def _squared_radius(size: int, like: Tensor) -> Tensor:
    if size % 2 == 0:
        raise ValueError(f"a kernel needs an odd side, not {size}")
    axis = torch.arange(size, device=like.device, dtype=torch.float32) - size // 2
    return axis[:, None] ** 2 + axis[None, :] ** 2


def _unit_sum(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum(dim=(-2, -1), keepdim=True)


def _mirrored(length: int, half: int) -> Tensor:
    """Indices of a line of `length` pixels, mirrored by `half` at both ends, the edge pixel doubled."""
    index = torch.arange(-half, length + half)
    index = torch.where(index < 0, -1 - index, index)
    return torch.where(index >= length, 2 * length - 1 - index, index)


def _check_bands(bands: Sequence[str], channels: int) -> None:
    unknown = [band for band in bands if band not in SEEING]
    if unknown or len(bands) != channels:
        raise ValueError(
            f"seeing and noise are known for {sorted(SEEING)}; not for {list(bands)} on {channels} channels"
        )
