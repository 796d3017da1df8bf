"""Worse seeing conserves flux and has the width asked for; noise has the sigma asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galaxy_models.degradation import (
    FWHM_PER_SIGMA,
    NOISE,
    SEEING,
    convolve,
    degrade_display,
    degrade_flux,
    gaussian_kernel,
    moffat_kernel,
)

BANDS = ("g", "r", "z")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def width_at_half_maximum(kernel: torch.Tensor) -> float:
    """Diameter at half the peak of a round, centred profile, by linear interpolation along the middle row."""
    centre = kernel.shape[-1] // 2
    profile = (kernel[centre, centre:] / kernel[centre, centre]).numpy()
    outside = int(np.argmax(profile < 0.5))
    inside = outside - 1
    return 2 * (inside + (profile[inside] - 0.5) / (profile[inside] - profile[outside]))


def second_moment(image: torch.Tensor) -> float:
    """Sigma along one axis of a source, pixels."""
    axis = torch.arange(image.shape[-1], dtype=torch.float64)
    marginal = image.double().sum(dim=0)
    mean = (axis * marginal).sum() / marginal.sum()
    return float((((axis - mean) ** 2 * marginal).sum() / marginal.sum()).sqrt())


@pytest.mark.parametrize("fwhm", [4.0, 6.5])
def test_kernels_have_unit_sum_and_the_full_width_asked_for(fwhm: float) -> None:
    width = torch.tensor(fwhm)
    for kernel in (gaussian_kernel(width / FWHM_PER_SIGMA, 61), moffat_kernel(width, 61, beta=2.5)):
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert width_at_half_maximum(kernel) == pytest.approx(fwhm, rel=0.03)


def test_a_moffat_has_more_light_in_its_wings_than_a_gaussian_of_the_same_width() -> None:
    width = torch.tensor(4.0)
    gaussian, moffat = gaussian_kernel(width / FWHM_PER_SIGMA, 61), moffat_kernel(width, 61)
    assert float(moffat[30, 45]) > 1000 * float(gaussian[30, 45])


def test_convolution_equals_the_sum_by_hand_and_keeps_sources_in_place() -> None:
    image = torch.rand(1, 1, 9, 9, generator=generator())
    kernel = torch.rand(1, 1, 3, 3, generator=generator(1))
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    expected = torch.nn.functional.conv2d(padded, kernel.flip(2, 3))
    assert torch.allclose(convolve(image, kernel), expected, atol=1e-5)


def test_convolution_conserves_flux_even_of_sources_at_the_edge() -> None:
    image = torch.zeros(1, 3, 41, 41)
    image[:, :, 0, 3] = 5.0
    image[:, :, 20, 20] = 1.0
    kernels = gaussian_kernel(torch.tensor([[1.0, 2.0, 4.0]]), 31)
    assert torch.allclose(convolve(image, kernels).sum(dim=(2, 3)), image.sum(dim=(2, 3)), rtol=1e-5)


def test_widths_add_in_quadrature_band_by_band() -> None:
    present = torch.tensor([[1.5, 1.6, 1.7]])
    star = gaussian_kernel(present, 97)
    blurred = degrade_flux(1e6 * star, BANDS, generator(3), seeing=present, noise=torch.zeros(1, 3))
    draws = generator(3)
    for band, name in enumerate(BANDS):
        target = float(SEEING[name].draw(1, draws))
        assert target > float(present[0, band]), "the seed must draw worse seeing, or nothing is tested"
        assert second_moment(blurred[0, band]) == pytest.approx(target, rel=0.02)
        assert float(blurred[0, band].sum()) == pytest.approx(1e6, rel=1e-4)


def test_finer_pixels_give_a_psf_of_as_many_more_pixels() -> None:
    stars = torch.zeros(2, 3, 193, 193)
    stars[:, :, 96, 96] = 1e6
    point, silence = torch.zeros(2, 3), torch.zeros(2, 3)
    scales = torch.tensor([0.262, 0.131])
    mixed = degrade_flux(stars, BANDS, generator(3), seeing=point, noise=silence, pixel_scale=scales)
    coarse, fine = (
        degrade_flux(stars, BANDS, generator(3), seeing=point, noise=silence, pixel_scale=scale)
        for scale in (0.262, 0.131)
    )
    for band in range(3):
        width = second_moment(coarse[1, band])
        assert second_moment(fine[1, band]) == pytest.approx(2 * width, rel=0.02)
        assert second_moment(mixed[0, band]) == pytest.approx(second_moment(coarse[0, band]), rel=1e-3)
        assert second_moment(mixed[1, band]) == pytest.approx(2 * width, rel=0.02)


def test_severity_scales_seeing_and_noise() -> None:
    star = torch.zeros(1, 3, 97, 97)
    star[:, :, 48, 48] = 1e6
    nothing = torch.zeros(1, 3)
    mild, severe = (degrade_flux(star, BANDS, generator(3), seeing=nothing, severity=s) for s in (1.0, 2.0))
    for band in range(3):
        core_of_mild, core_of_severe = mild[0, band, 48, 48], severe[0, band, 48, 48]
        assert float(core_of_mild / core_of_severe) == pytest.approx(4, rel=0.05), (
            "twice the width, a quarter of the peak"
        )
        corners = [float(image[0, band, :8].std()) for image in (mild, severe)]
        assert corners[1] == pytest.approx(2 * corners[0], rel=1e-2)


def test_an_image_worse_than_the_draw_is_left_as_it_is() -> None:
    flux = torch.rand(2, 3, 33, 33, generator=generator())
    poor = torch.full((2, 3), 20.0)
    assert torch.allclose(degrade_flux(flux, BANDS, generator(1), seeing=poor, noise=poor), flux, atol=1e-5)


def test_noise_ends_at_the_level_drawn_whatever_was_there_before() -> None:
    count, size = 6, 96
    present = torch.tensor([NOISE[band].low for band in BANDS]).expand(count, 3)
    sky = torch.randn(count, 3, size, size, generator=generator(5)) * present[..., None, None]
    poor_seeing = torch.full((count, 3), 20.0)
    noisy = degrade_flux(sky, BANDS, generator(6), seeing=poor_seeing, noise=present)
    draws = generator(6)
    for name in BANDS:
        SEEING[name].draw(count, draws)
    for band, name in enumerate(BANDS):
        target = NOISE[name].draw(count, draws)
        assert torch.allclose(noisy[:, band].flatten(1).std(dim=1), target, rtol=0.04)


def test_the_distributions_have_the_published_medians_and_limits() -> None:
    for name, median in {"g": 2.40, "r": 2.16, "z": 2.02}.items():
        widths = SEEING[name].draw(4000, generator())
        assert float(widths.median()) == pytest.approx(median, abs=0.05)
        assert SEEING[name].low <= float(widths.min()) <= float(widths.max()) <= SEEING[name].high


def test_display_values_stay_legal_and_lose_detail() -> None:
    rgb = torch.zeros(2, 3, 64, 64)
    rgb[:, :, 32, 32] = 1.0
    worse = degrade_display(rgb, generator())
    assert float(worse.min()) >= 0
    assert float(worse.max()) < 0.6


def test_the_same_seed_gives_the_same_pixels() -> None:
    flux = torch.rand(2, 3, 40, 40, generator=generator())
    first, second = (degrade_flux(flux, BANDS, generator(9), profile="moffat") for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, degrade_flux(flux, BANDS, generator(10), profile="moffat"))


def test_unknown_bands_and_profiles_are_refused() -> None:
    flux = torch.zeros(1, 2, 16, 16)
    with pytest.raises(ValueError, match="'y'"):
        degrade_flux(flux, ("g", "y"), generator())
    with pytest.raises(ValueError, match="airy"):
        degrade_flux(flux, ("g", "r"), generator(), profile="airy")
    with pytest.raises(ValueError, match="odd"):
        gaussian_kernel(torch.tensor(1.0), 4)
