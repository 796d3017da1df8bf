"""Photometry gives back known light and known shapes, whatever the sky and however the stamp lies."""

from __future__ import annotations

import math

import pytest
import torch

from galaxy_models.aperture_photometry import (
    APERTURES,
    LARGEST_APERTURE,
    LARGEST_WINDOW,
    REFERENCE,
    SMALLEST_APERTURE,
    SMALLEST_WINDOW,
    SOFTENING,
    WINDOWS,
    aperture_photometry,
    decentred,
    direction_size,
    photometry_size,
)
from galaxy_models.augment import Geometry, transform
from galaxy_models.ellipticity import position_angle, turned_at_the_end

SIDE = 96
SHAPES = slice(APERTURES, APERTURES + 2 * WINDOWS)
"""Of a stamp of one band: after the reference and the growth, before the sky."""

SKY = SHAPES.stop
DIRECTIONS = slice(SKY + 1, None)


def gaussian(flux: float, along: float, across: float, angle: float = 0.0) -> torch.Tensor:
    """(1, 1, SIDE, SIDE) of this summed flux and these sigmas, in pixels."""
    place = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    light = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return (flux * light / light.sum()).float()[None, None]


def noise(scatter: float, count: int = 1, seed: int = 0) -> torch.Tensor:
    return scatter * torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def of_apertures(measured: torch.Tensor) -> torch.Tensor:
    """(N, APERTURES) nanomaggies of stamps of one band."""
    growth = torch.cat([torch.zeros(len(measured), 1), measured[:, 1:APERTURES].cumsum(dim=1)], dim=1)
    return (growth - growth[:, REFERENCE, None] + measured[:, :1]).sinh() * SOFTENING


def radius_of(place: int, first: float, last: float, count: int) -> float:
    return first * (last * SIDE / first) ** (place / (count - 1))


def test_each_aperture_holds_the_light_that_a_gaussian_has_within_it() -> None:
    sigma, flux = 6.0, 50.0
    held = of_apertures(aperture_photometry(gaussian(flux, sigma, sigma)))[0]
    for place, light in enumerate(held.tolist()):
        radius = radius_of(place, SMALLEST_APERTURE, LARGEST_APERTURE, APERTURES)
        assert light == pytest.approx(flux * (1 - math.exp(-(radius**2) / (2 * sigma**2))), rel=0.04)
    assert float(held[-1]) == pytest.approx(flux, rel=0.01)


def test_a_galaxy_ten_times_as_bright_has_the_same_growth_and_shape() -> None:
    faint, bright = aperture_photometry(gaussian(20.0, 6, 3)), aperture_photometry(gaussian(200.0, 6, 3))
    assert float(bright[0, 0] - faint[0, 0]) == pytest.approx(math.log(10), abs=1e-3)
    torch.testing.assert_close(bright[:, 1:], faint[:, 1:], atol=5e-3, rtol=0)


def test_shapes_are_those_of_the_light_under_the_window() -> None:
    along, across = 8.0, 4.0
    sizes, ellipticities = aperture_photometry(gaussian(300.0, along, across, angle=0.6))[0, SHAPES].split(WINDOWS)
    for place in range(WINDOWS):
        window = radius_of(place, SMALLEST_WINDOW, LARGEST_WINDOW, WINDOWS)
        long, short = (1 / (1 / sigma**2 + 1 / window**2) for sigma in (along, across))  # variances of the product
        assert float(sizes[place]) == pytest.approx((long + short) / window**2, rel=0.02)
        assert float(ellipticities[place]) == pytest.approx((long - short) / (long + short), abs=0.01)


def test_turns_and_mirrors_change_nothing() -> None:
    stamp = gaussian(80.0, 7, 3, angle=0.3) + noise(0.01)
    plain = aperture_photometry(stamp)
    for other in (stamp.rot90(1, (2, 3)), stamp.flip(3)):
        same = aperture_photometry(other)[:, : DIRECTIONS.start]
        torch.testing.assert_close(same, plain[:, : DIRECTIONS.start], atol=2e-3, rtol=0)


@pytest.mark.parametrize("degrees", [5.0, 20.0, 90.0, 130.0])
def test_directions_are_e1_and_e2_of_the_position_angle_where_row_0_is_south_and_east_is_left(degrees: float) -> None:
    # from north through east is from up to the left; `gaussian` turns from right to up
    measured = aperture_photometry(gaussian(300.0, 8, 4, angle=math.radians(90 + degrees)))[0]
    ellipticity = measured[SHAPES][WINDOWS:]
    e1, e2 = measured[DIRECTIONS].view(WINDOWS, 2).unbind(1)
    torch.testing.assert_close(e1, ellipticity * math.cos(2 * math.radians(degrees)), atol=2e-3, rtol=0)
    torch.testing.assert_close(e2, ellipticity * math.sin(2 * math.radians(degrees)), atol=2e-3, rtol=0)
    assert position_angle(e1[2], e2[2]) == pytest.approx(degrees, abs=0.5)


def test_turned_directions_are_those_of_the_turned_stamp() -> None:
    stamp, count = gaussian(300.0, 8, 4, angle=0.3), direction_size(1)
    for degrees, close in ((90.0, 5e-3), (35.0, 0.03)):
        angle = torch.tensor([degrees])
        geometry = Geometry(torch.tensor([False]), angle, torch.ones(1), torch.zeros(1, 2))
        seen = aperture_photometry(transform(stamp, geometry, SIDE))[:, -count:]
        counted = turned_at_the_end(aperture_photometry(stamp), count, angle, south_first=True)[:, -count:]
        torch.testing.assert_close(counted, seen, atol=close, rtol=0)


def test_a_bright_sky_is_taken_off_and_told() -> None:
    stamp = gaussian(80.0, 7, 3) + noise(0.01)
    plain, bright = aperture_photometry(stamp), aperture_photometry(stamp + 0.05)
    assert of_apertures(bright)[0].tolist() == pytest.approx(of_apertures(plain)[0].tolist(), rel=0.03, abs=0.5)
    assert float(bright[0, SKY].sinh() * SOFTENING) == pytest.approx(0.05 * SIDE**2, rel=0.02)


def test_of_a_sky_that_is_gone_the_border_adds_no_noise() -> None:
    """The median of a border, taken off as it is, would more than double the scatter of the largest aperture."""
    stamps = gaussian(30.0, 4, 4) + noise(0.01, count=200)
    scatter = float(of_apertures(aperture_photometry(stamps))[:, -1].std())
    area = math.pi * (LARGEST_APERTURE * SIDE) ** 2
    assert scatter < 1.3 * 0.01 * math.sqrt(area)


def test_pure_noise_has_no_shape() -> None:
    shapes = aperture_photometry(noise(0.01, count=200))[:, SHAPES]
    assert float(shapes.abs().median()) < 0.1
    assert float((shapes.abs() > 1).float().mean()) < 0.02


def test_bands_are_told_apart_and_nothing_is_ever_no_number() -> None:
    galaxy, nothing = gaussian(9.0, 5, 5), torch.zeros(1, 1, SIDE, SIDE)
    measured = aperture_photometry(torch.cat([galaxy, 2 * galaxy, nothing], dim=1))
    assert measured.shape == (1, photometry_size(3)) and measured.isfinite().all()
    assert float(measured[0, 1]) == pytest.approx(math.log(2), abs=0.01), "the colour of the first two"
    alone = aperture_photometry(galaxy)
    torch.testing.assert_close(measured[:, 3 : 3 + APERTURES - 1], alone[:, 1:APERTURES])
    halved = aperture_photometry(torch.cat([galaxy, 2 * galaxy, nothing], dim=1).half())
    torch.testing.assert_close(halved, measured, atol=0.02, rtol=0)


def test_decentred_moves_by_one_pixel_at_most_and_each_stamp_by_itself() -> None:
    point = torch.zeros(200, 2, 9, 9)
    point[:, :, 4, 4] = 1
    moved = decentred(point, torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 0], moved[:, 1]), "all bands together"
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}
    assert moved.sum() == point.sum()
