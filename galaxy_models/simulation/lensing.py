"""Lensed arcs: a blue source behind a singular isothermal ellipsoid, ray-traced and seen through a survey's PSF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..photometry import ZERO_POINT

WAVELENGTHS = {"u": 355.0, "g": 480.0, "r": 640.0, "i": 760.0, "z": 920.0, "y": 1000.0}
"""Effective wavelength of a band, nm."""

REFERENCE_BAND = "r"
MOFFAT_BETA = 3.5
OVERSAMPLING = 3
MASK_LEVEL = 0.25


@dataclass(frozen=True)
class LensSystem:
    """A deflector and a source, in arcsec about the stamp's centre; x runs along columns, y along rows.

    Attributes
    ----------
    einstein_radius
        Of the isothermal deflector, arcsec.
    deflector_ellipticity, shear
        (e1, e2) with modulus (1 - q) / (1 + q), and (gamma1, gamma2); angles run from x to y.
    source_position
        (x, y) of the unlensed source, arcsec.
    source_radius, source_sersic, source_ellipticity
        Half-light radius in arcsec, Sersic index, and (e1, e2) of the unlensed source.
    source_magnitude
        AB magnitude of the unlensed source in r.
    spectral_slope
        alpha of the source's f_nu ~ wavelength^alpha; 0 is flat in AB, starforming sources have 0 to 1.
    """

    einstein_radius: float
    deflector_ellipticity: tuple[float, float]
    shear: tuple[float, float]
    source_position: tuple[float, float]
    source_radius: float
    source_sersic: float
    source_ellipticity: tuple[float, float]
    source_magnitude: float
    spectral_slope: float

    def source_flux(self, band: str) -> float:
        """Flux of the unlensed source, nanomaggies."""
        magnitude = self.source_magnitude - 2.5 * self.spectral_slope * np.log10(
            _wavelength(band) / WAVELENGTHS[REFERENCE_BAND]
        )
        return float(10 ** (0.4 * (ZERO_POINT - magnitude)))


@dataclass(frozen=True)
class LensedArc:
    """What a lens does to a source, as one survey would see it without noise and without the deflector's light.

    Attributes
    ----------
    flux
        (C, size, size) float32, nanomaggies per pixel, in the order of the bands asked for.
    mask
        (size, size) bool: pixels above a quarter of the peak, after the PSF.
    einstein_radius
        Arcsec.
    magnification
        Flux of all images over flux of the unlensed source.
    system
        The deflector and source themselves.
    """

    flux: NDArray[np.float32]
    mask: NDArray[np.bool_]
    einstein_radius: float
    magnification: float
    system: LensSystem


def lensed_arc(
    generator: np.random.Generator,
    *,
    size: int,
    pixel_scale: float,
    psf_fwhm: Sequence[float],
    bands: Sequence[str],
    einstein_radius: float | None = None,
    deflector_ellipticity: tuple[float, float] = (0.0, 0.0),
    source_magnitude: float | None = None,
) -> LensedArc:
    """Draw a lens system from `generator` and render it.

    Parameters
    ----------
    generator
        The only source of chance: its state decides the result.
    size, pixel_scale
        Side of the stamp in pixels, and arcsec per pixel.
    psf_fwhm, bands
        FWHM of the Moffat PSF in arcsec, one per band; bands among `WAVELENGTHS`.
    einstein_radius
        Arcsec; drawn from 1.1 to 3.5, small ones more often, if not given.
    deflector_ellipticity
        (e1, e2) of the mass, usually near that of the deflector's light.
    source_magnitude
        Unlensed r magnitude; 21.5 to 23.5 if not given.
    """
    system = draw_system(
        generator,
        einstein_radius=einstein_radius,
        deflector_ellipticity=deflector_ellipticity,
        source_magnitude=source_magnitude,
    )
    return render(system, size=size, pixel_scale=pixel_scale, psf_fwhm=psf_fwhm, bands=bands)


def draw_system(
    generator: np.random.Generator,
    *,
    einstein_radius: float | None = None,
    deflector_ellipticity: tuple[float, float] = (0.0, 0.0),
    source_magnitude: float | None = None,
) -> LensSystem:
    """A strong lens with its source near the caustic, so that there are arcs and not two points.

    Sources are uniform in area within 0.45 Einstein radii, where an isothermal sphere magnifies four times and more.
    """
    drawn_radius = float(1.1 + 2.4 * generator.beta(1.2, 2.0))
    drawn_magnitude = float(generator.uniform(21.5, 23.5))
    radius = drawn_radius if einstein_radius is None else float(einstein_radius)
    distance = 0.45 * radius * np.sqrt(generator.uniform())
    position = _from_polar(distance, generator.uniform(0, 2 * np.pi))
    return LensSystem(
        einstein_radius=radius,
        deflector_ellipticity=(float(deflector_ellipticity[0]), float(deflector_ellipticity[1])),
        shear=_from_polar(generator.uniform(0, 0.08), generator.uniform(0, 2 * np.pi)),
        source_position=position,
        source_radius=float(np.exp(generator.normal(np.log(0.25), 0.35))),
        source_sersic=float(generator.uniform(0.7, 1.8)),
        source_ellipticity=_from_polar(generator.uniform(0, 0.35), generator.uniform(0, 2 * np.pi)),
        source_magnitude=drawn_magnitude if source_magnitude is None else float(source_magnitude),
        spectral_slope=float(generator.uniform(-0.2, 1.0)),
    )


def render(
    system: LensSystem, *, size: int, pixel_scale: float, psf_fwhm: Sequence[float], bands: Sequence[str]
) -> LensedArc:
    """Ray-trace `system` on a grid of a third of a pixel, bin, and convolve with each band's PSF.

    Raises
    ------
    ValueError
        If there is not one PSF width per band, or a band is unknown.
    """
    if len(psf_fwhm) != len(bands):
        raise ValueError(f"{len(bands)} bands {list(bands)} need as many PSF widths, not {list(psf_fwhm)}")
    fluxes = [system.source_flux(band) for band in bands]
    image = _unit_image(system, size, pixel_scale)
    seen = [_convolve(image, fwhm / pixel_scale) for fwhm in psf_fwhm]
    flux = np.stack([amount * picture for amount, picture in zip(fluxes, seen, strict=True)]).astype(np.float32)
    brightness = flux.sum(axis=0)
    return LensedArc(
        flux=flux,
        mask=brightness > MASK_LEVEL * brightness.max(),
        einstein_radius=system.einstein_radius,
        magnification=float(image.sum()),
        system=system,
    )


def lens_models(system: LensSystem) -> tuple[Any, list[dict[str, float]]]:
    """Lenstronomy's `LensModel` and its keyword arguments, for whoever wants to solve the lens equation."""
    from lenstronomy.LensModel.lens_model import LensModel

    (e1, e2), (gamma1, gamma2) = system.deflector_ellipticity, system.shear
    names, arguments = ["SHEAR"], [{"gamma1": gamma1, "gamma2": gamma2}]
    if e1 == e2 == 0:  # the ellipsoid's formula is singular at the sphere
        names.append("SIS")
        arguments.append({"theta_E": system.einstein_radius})
    else:
        names.append("SIE")
        arguments.append({"theta_E": system.einstein_radius, "e1": e1, "e2": e2})
    return LensModel(names), arguments


def _unit_image(system: LensSystem, size: int, pixel_scale: float) -> NDArray[np.float64]:
    """(size, size): flux of the lensed image per pixel, for an unlensed source of total flux 1."""
    from lenstronomy.LightModel.light_model import LightModel

    # Far from the deflector the source's light is gone: |beta| >= |theta| - theta_E grows with |theta|. The shear and
    # the ellipse stretch that by less than the factor of 1.5.
    reach = 1.5 * (system.einstein_radius + float(np.hypot(*system.source_position)) + 6 * system.source_radius)
    half = min(size / 2, np.ceil(reach / pixel_scale) + size % 2 / 2)
    low = round(size / 2 - half)
    side = size - 2 * low
    # the deflection at the very centre has no direction: no ray may pass there
    steps = (np.arange(side * OVERSAMPLING) + 0.5 + 1e-6) / OVERSAMPLING - side / 2
    x, y = np.meshgrid(steps * pixel_scale, steps * pixel_scale)
    lens, arguments = lens_models(system)
    source_x, source_y = lens.ray_shooting(x.ravel(), y.ravel(), arguments)
    light = LightModel(["SERSIC_ELLIPSE"])
    sersic = {
        "amp": 1.0,
        "R_sersic": system.source_radius,
        "n_sersic": system.source_sersic,
        "e1": system.source_ellipticity[0],
        "e2": system.source_ellipticity[1],
        "center_x": system.source_position[0],
        "center_y": system.source_position[1],
    }
    total = float(np.sum(light.total_flux([sersic])))
    brightness = light.surface_brightness(source_x, source_y, [sersic]).reshape(x.shape)
    binned = brightness.reshape(side, OVERSAMPLING, side, OVERSAMPLING).mean(axis=(1, 3))
    image = np.zeros((size, size))
    image[low : low + side, low : low + side] = binned * pixel_scale**2 / total
    return image


def _convolve(image: NDArray[np.float64], fwhm: float) -> NDArray[np.float64]:
    """`image` through a Moffat PSF of `fwhm` pixels, as if the sky beyond the stamp were empty."""
    size = len(image)
    padded = 2 * size
    spectrum = np.fft.rfft2(image, (padded, padded)) * _moffat_transform(padded, round(fwhm, 6))
    convolved: NDArray[np.float64] = np.fft.irfft2(spectrum, (padded, padded))[:size, :size]
    return convolved


@lru_cache(maxsize=32)
def _moffat_transform(padded: int, fwhm: float) -> NDArray[np.complex128]:
    """Fourier transform of a Moffat profile of unit flux on a (padded, padded) grid with its centre at the origin."""
    offsets = np.fft.fftfreq(padded, 1 / padded)
    scale = fwhm / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    profile = (1 + (offsets[:, None] ** 2 + offsets[None, :] ** 2) / scale**2) ** -MOFFAT_BETA
    transform: NDArray[np.complex128] = np.fft.rfft2(profile / profile.sum())
    return transform


def _wavelength(band: str) -> float:
    try:
        return WAVELENGTHS[band]
    except KeyError:
        raise ValueError(f"band {band!r} has no known wavelength; known are {sorted(WAVELENGTHS)}") from None


def _from_polar(modulus: float, angle: float) -> tuple[float, float]:
    return float(modulus * np.cos(angle)), float(modulus * np.sin(angle))
