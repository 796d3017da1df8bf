"""Photometry gives back known light and known shapes, whatever the sky and however the stamp lies."""

from __future__ import annotations

import math

import pytest
import torch

from galaxy_models.aperture_photometry import (
    APERTURES,
    LARGEST_APERTURE,
    LARGEST_WINDOW,
    SMALLEST_APERTURE,
    SMALLEST_WINDOW,
    SOFTENING,
    WINDOWS,
    measures_of,
    photometry,
)

SIDE = 96


def gaussian(flux: float, along: float, across: float, angle: float = 0.0) -> torch.Tensor:
    """(1, 1, SIDE, SIDE) of this summed flux and these sigmas, in pixels."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    light = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return (flux * light / light.sum()).float()[None, None]


def of_aperture(measured: torch.Tensor) -> torch.Tensor:
    """(APERTURES,) nanomaggies of a stamp of one band."""
    return measured[0, :APERTURES].sinh() * SOFTENING


def test_each_aperture_holds_the_light_that_a_gaussian_has_within_it() -> None:
    sigma, flux = 6.0, 50.0
    held = of_aperture(photometry(gaussian(flux, sigma, sigma)))
    factor = (LARGEST_APERTURE * SIDE / SMALLEST_APERTURE) ** (1 / (APERTURES - 1))
    for place, light in enumerate(held.tolist()):
        radius = SMALLEST_APERTURE * factor**place
        assert light == pytest.approx(flux * (1 - math.exp(-(radius**2) / (2 * sigma**2))), rel=0.04)
    assert held[-1] == pytest.approx(flux, rel=0.01)


def test_a_galaxy_ten_times_as_bright_is_brighter_by_a_factor_everywhere_and_no_shape_changes() -> None:
    faint, bright = photometry(gaussian(20.0, 6, 3)), photometry(gaussian(200.0, 6, 3))
    torch.testing.assert_close(
        (bright - faint)[0, :APERTURES], torch.full((APERTURES,), math.log(10)), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(bright[0, APERTURES:], faint[0, APERTURES:])


def test_shapes_are_those_of_the_light_under_the_window() -> None:
    along, across = 8.0, 4.0
    measured = photometry(gaussian(300.0, along, across, angle=0.6))
    sizes, ellipticities = measured[0, APERTURES:].split(WINDOWS)
    factor = (LARGEST_WINDOW * SIDE / SMALLEST_WINDOW) ** (1 / (WINDOWS - 1))
    for place in range(WINDOWS):
        window = SMALLEST_WINDOW * factor**place
        long, short = (1 / (1 / sigma**2 + 1 / window**2) for sigma in (along, across))  # variances of the product
        assert float(sizes[place]) == pytest.approx((long + short) / window**2, rel=0.02)
        assert float(ellipticities[place]) == pytest.approx((long - short) / (long + short), abs=0.01)


def test_sky_turns_and_mirrors_change_nothing() -> None:
    stamp = gaussian(80.0, 7, 3, angle=0.3)
    plain = photometry(stamp)
    for other in (stamp + 0.4, stamp.rot90(1, (2, 3)), stamp.flip(3)):
        torch.testing.assert_close(photometry(other), plain, atol=2e-3, rtol=0)


def test_bands_stand_one_after_the_other_and_nothing_is_ever_no_number() -> None:
    noise = 0.01 * torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    stamps = torch.cat([torch.zeros(4, 1, SIDE, SIDE), noise, gaussian(9.0, 5, 5).expand(4, -1, -1, -1)], dim=1)
    measured = photometry(stamps)
    assert measured.shape == (4, measures_of(3)) and measured.isfinite().all()
    torch.testing.assert_close(measured[:1, 2 * measures_of(1) :], photometry(gaussian(9.0, 5, 5)))
    torch.testing.assert_close(photometry(stamps.half()), measured, atol=0.05, rtol=0.05)
