"""Blur adds exactly the variance asked for, keeps the flux, and leaves of the noise what the formula says."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.augment import Geometry, interpolation_blur, transform
from galaxy_models.blur import gaussian_blur, noise_left


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned(count: int, angle: float, shift: float = 0.3) -> Geometry:
    angles = torch.full((count,), angle)
    return Geometry(
        torch.zeros(count, dtype=torch.bool), angles, torch.ones(count), torch.full((count, 2), shift) * (angle != 0)
    )


@pytest.mark.parametrize("variance", [0.01, 0.2, 1.0, 12.0])
def test_a_point_becomes_a_round_source_of_the_variance(variance: float) -> None:
    star = torch.zeros(1, 1, 81, 81)
    star[..., 40, 40] = 1
    image = gaussian_blur(star, torch.tensor([[variance]]))[0, 0].double()
    axis = torch.arange(81, dtype=torch.float64) - 40
    for line in (image.sum(0), image.sum(1)):
        assert float((line * axis**2).sum()) == pytest.approx(variance, rel=2e-3, abs=5e-4)
    assert float((image * axis[:, None] * axis).sum()) == pytest.approx(0, abs=1e-3)


def test_two_blurs_are_one_of_the_summed_variance_and_none_is_none() -> None:
    images = torch.rand(3, 2, 24, 31, generator=generator())
    first, second = torch.rand(3, 2, generator=generator(1)) * 4, torch.rand(3, 2, generator=generator(2)) * 4
    torch.testing.assert_close(
        gaussian_blur(gaussian_blur(images, first), second), gaussian_blur(images, first + second)
    )
    torch.testing.assert_close(gaussian_blur(images, torch.zeros(3, 2)), images)


def test_flux_is_kept_even_at_the_edge_and_each_image_has_its_own_blur() -> None:
    images = torch.zeros(2, 1, 33, 33)
    images[:, :, 0, 3] = 5
    images[:, :, 20, 20] = 1
    blurred = gaussian_blur(images, torch.tensor([[0.5], [9.0]]))
    torch.testing.assert_close(blurred.sum(dim=(1, 2, 3)), torch.tensor([6.0, 6.0]))
    assert blurred[0].max() > 3 * blurred[1].max()


def test_the_blur_is_a_gaussian_where_pixels_are_fine() -> None:
    star = torch.zeros(1, 1, 81, 81)
    star[..., 40, 40] = 1
    line = gaussian_blur(star, torch.tensor([[16.0]]))[0, 0, 40]
    axis = torch.arange(81) - 40
    torch.testing.assert_close(line / line.max(), torch.exp(-0.5 * axis**2 / 16), atol=0.01, rtol=0)


@pytest.mark.parametrize("variance", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("angle", [0.0, 30.0, 77.0])
def test_noise_that_is_left_after_a_turn_and_a_blur(angle: float, variance: float) -> None:
    sky = torch.randn(8, 3, 128, 128, generator=generator())
    geometry = turned(8, angle)
    smoothed = interpolation_blur(geometry, 128, 128, 96)
    blurred = gaussian_blur(transform(sky, geometry, 96), torch.full((8, 3), variance))
    expected = noise_left(torch.full((8, 1), variance), smoothed[:, None]).mean()
    assert float(blurred[..., 16:-16, 16:-16].std()) == pytest.approx(float(expected), rel=0.03)


def test_interpolation_blurs_by_a_sixth_of_a_pixel_squared_when_turned_and_not_at_all_when_not() -> None:
    assert interpolation_blur(turned(1, 30.0), 96, 96, 64).item() == pytest.approx(1 / 6, abs=0.01)
    assert interpolation_blur(turned(1, 0.0), 96, 96, 64).item() == pytest.approx(0, abs=1e-4)
    half = Geometry(torch.tensor([False]), torch.zeros(1), torch.ones(1), torch.full((1, 2), 0.5))
    assert interpolation_blur(half, 96, 96, 64).item() == pytest.approx(1 / 4, abs=1e-4), "between two pixels"
