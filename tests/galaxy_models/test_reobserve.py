"""Stamps that are observed anew have the dust, the seeing and the noise that were drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from galaxy_models.augment import Augmentation, Geometry, augmented_input, interpolation_blur, transform
from galaxy_models.degradation import FWHM_PER_SIGMA
from galaxy_models.inputs import InputSpec
from galaxy_models.photometry import EXTINCTION, magnitude
from galaxy_models.reobserve import Chances, Reobservation, reobserve
from galaxy_models.survey_statistics import ObservedConditions, Quantiles, SurveyStatistics, published

BANDS = ("g", "r", "z")
SCALE = 0.25
SIZE = 97
CLEAR = Quantiles((0.0,))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observed(count: int, sigma: float = 2.0, noise: float = 0.0, reddening: float = 0.0) -> ObservedConditions:
    """PSF of `sigma` pixels and noise in nanomaggies per pixel, the same in all bands."""
    return ObservedConditions(
        torch.full((count, 3), sigma * SCALE * FWHM_PER_SIGMA),
        torch.full((count, 3), noise / SCALE),
        torch.full((count,), reddening),
        torch.full((count,), SCALE),
    )


def survey(
    sigma: tuple[float, ...] = (0.0,) * 3, noise: tuple[float, ...] = (0.0,) * 3, reddening: float = 0.0
) -> SurveyStatistics:
    """One value of each band, in pixels and nanomaggies per pixel of 0.25 arcsec."""
    return SurveyStatistics(
        BANDS,
        tuple(Quantiles((each * SCALE * FWHM_PER_SIGMA,)) for each in sigma),
        tuple(Quantiles((each / SCALE,)) for each in noise),
        Quantiles((reddening,)),
    )


def star(count: int, sigma: float = 2.0, flux: float = 1000.0, size: int = SIZE) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    image = torch.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return (flux * image / image.sum()).expand(count, 3, size, size)


def width(image: torch.Tensor) -> float:
    """Sigma from the second moments, the mean of both axes, pixels."""
    image = image.double() / image.double().sum()
    axis = torch.arange(image.shape[-1], dtype=torch.float64)
    lines = (image.sum(0), image.sum(1))
    return float((sum((line * axis**2).sum() - (line * axis).sum() ** 2 for line in lines) / 2).sqrt())


def test_a_point_source_has_the_drawn_width_in_each_band_and_its_flux() -> None:
    wanted = (2.1, 3.0, 4.5)
    seen = reobserve(star(2), BANDS, Reobservation(observed(2), survey(wanted)), generator())
    for band, sigma in enumerate(wanted):
        assert width(seen[1, band]) == pytest.approx(sigma, rel=2e-3)
    torch.testing.assert_close(seen.sum(dim=(2, 3)), torch.full((2, 3), 1000.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("magnification", [0.9, 1.0, 1.1])
def test_the_width_is_the_drawn_one_whatever_the_geometry_did_before(magnification: float) -> None:
    one = torch.ones(1)
    geometry = Geometry(torch.tensor([True]), 33 * one, magnification * one, torch.tensor([[1.3, -0.4]]))
    turned = transform(star(1), geometry, 81)
    smoothed = interpolation_blur(geometry, SIZE, SIZE, 81)
    assert width(turned[0, 0]) == pytest.approx(magnification * (4 + float(smoothed)) ** 0.5, rel=3e-3)
    seen = reobserve(
        turned,
        BANDS,
        Reobservation(observed(1), survey((2.5, 3.0, 3.5))),
        generator(),
        magnification=geometry.scale,
        interpolation=smoothed,
    )
    for band, sigma in enumerate((2.5, 3.0, 3.5)):
        assert width(seen[0, band]) == pytest.approx(sigma, rel=4e-3)


@pytest.mark.parametrize("angle", [0.0, 33.0])
@pytest.mark.parametrize("sigma", [2.0, 2.2, 3.5])
def test_a_blank_stamp_has_the_drawn_noise_whatever_smoothed_its_own(angle: float, sigma: float) -> None:
    """Also through dust, which dims a stamp's own noise with it."""
    own, wanted = 0.02, (0.021, 0.03, 0.06)
    count = 8
    ones = torch.ones(count)
    geometry = Geometry(torch.zeros(count, dtype=torch.bool), angle * ones, ones, torch.zeros(count, 2))
    sky = own * torch.randn(count, 3, SIZE, SIZE, generator=generator(1))
    seen = reobserve(
        transform(sky, geometry, SIZE),
        BANDS,
        Reobservation(observed(count, noise=own), survey((sigma,) * 3, wanted, reddening=0.1)),
        generator(),
        interpolation=interpolation_blur(geometry, SIZE, SIZE, SIZE),
    )
    for band, target in enumerate(wanted):
        assert float(seen[:, band, 24:-24, 24:-24].std()) == pytest.approx(target, rel=0.03)


def test_magnitudes_change_by_k_times_the_change_of_reddening() -> None:
    flux = star(2)
    own = replace(observed(2), reddening=torch.tensor([0.0, 0.3]))
    seen = reobserve(flux, BANDS, Reobservation(own, survey(reddening=0.1)), generator())
    change = magnitude(seen.sum(dim=(2, 3))) - magnitude(flux.sum(dim=(2, 3)))
    k = torch.tensor([EXTINCTION[band] for band in BANDS])
    torch.testing.assert_close(change, torch.stack([0.1 * k, -0.2 * k]), atol=1e-4, rtol=0)


def test_a_stamp_that_is_already_worse_is_left_as_it_is() -> None:
    flux = star(1, sigma=5.0) + torch.randn(1, 3, SIZE, SIZE, generator=generator())
    own = Reobservation(observed(1, sigma=5.0, noise=1.0), survey((4.0,) * 3, (0.5,) * 3))
    torch.testing.assert_close(reobserve(flux, BANDS, own, generator()), flux, atol=1e-5, rtol=1e-5)


def test_what_came_out_follows_the_surveys_distribution_stamp_by_stamp_and_band_by_band() -> None:
    """Medians and quartiles of the widths of 300 stars taken with good seeing."""
    nights = published(BANDS)
    one = SurveyStatistics(BANDS, nights.seeing, (CLEAR,) * 3, CLEAR)
    stars = star(300, sigma=0.8, size=49)
    seen = reobserve(stars, BANDS, Reobservation(observed(300, sigma=0.8), one), generator())
    widths = torch.tensor([[width(band) for band in each] for each in seen]) * SCALE * FWHM_PER_SIGMA
    expected = one.draw_seeing(20_000, generator(1))
    for chance in (0.25, 0.5, 0.75):
        torch.testing.assert_close(widths.quantile(chance, dim=0), expected.quantile(chance, dim=0), rtol=0.03, atol=0)
    assert torch.corrcoef(widths.T).fill_diagonal_(0).abs().max() < 0.25


def test_each_change_is_made_to_the_share_of_stamps_that_was_asked_for() -> None:
    flux = star(400, size=17)
    night = Reobservation(observed(400), survey((3.0,) * 3, (0.01,) * 3, reddening=0.1))

    def changed(chances: Chances) -> float:
        seen = reobserve(flux, BANDS, night, generator(), chances=chances)
        return float(((seen - flux).abs().amax(dim=(1, 2, 3)) > 1e-3).float().mean())

    assert changed(Chances(0, 0, 0)) == 0
    for name in ("reddening", "seeing", "depth"):
        assert changed(Chances(**{"reddening": 0.0, "seeing": 0.0, "depth": 0.0, name: 1.0})) == 1
        assert changed(Chances(**{"reddening": 0.0, "seeing": 0.0, "depth": 0.0, name: 0.3})) == pytest.approx(
            0.3, abs=0.08
        )


def test_a_band_of_which_nothing_is_known_stays_as_it_is() -> None:
    bands = ("g", "i", "z")
    own = replace(observed(1), seeing=torch.full((1, 3), torch.nan), noise=torch.full((1, 3), torch.nan))
    nothing_of_i = SurveyStatistics(bands, published(bands).seeing, published(bands).noise, CLEAR)
    flux = star(1)
    seen = reobserve(flux, bands, Reobservation(own, nothing_of_i), generator(3))
    torch.testing.assert_close(seen[:, 1], flux[:, 1], rtol=1e-4, atol=1e-4)
    assert (seen[:, 0] - flux[:, 0]).std() > 1e-3


def test_rows_choose_the_conditions_of_their_stamps() -> None:
    table = replace(observed(5), reddening=torch.arange(5.0))
    part = Reobservation(table, survey()).of(torch.tensor([3, 1, 1]), "cpu")
    assert part.own.reddening.tolist() == [3, 1, 1] and part.own.seeing.shape == (3, 3)


INPUTS = InputSpec(BANDS, 96, 64, 2, (0.2, 0.3), True)
STILL = Augmentation(rotation=0, shift=0, resize=0, mirror=0, brightness=0, colour=0, noise=0)


def test_an_augmented_input_is_observed_anew_before_the_stretch() -> None:
    """What the network sees is the stretch of the worse fluxes."""
    stamps = star(2, flux=3.0, size=96)
    night = Reobservation(observed(2), survey((4.0,) * 3, reddening=0.1))
    seen = augmented_input(stamps, "nanomaggy", INPUTS, STILL, generator(), night)
    worse = reobserve(INPUTS.crop_centre(stamps), BANDS, night, generator())
    torch.testing.assert_close(seen, INPUTS.bin(INPUTS.to_rgb(worse, "nanomaggy")), atol=1e-3, rtol=0)
    plain = augmented_input(stamps, "nanomaggy", INPUTS, STILL, generator())
    assert seen.amax() < 0.9 * plain.amax()
    off = replace(STILL, reddening=0, seeing=0, depth=0)
    torch.testing.assert_close(augmented_input(stamps, "nanomaggy", INPUTS, off, generator(), night), plain)
    torch.testing.assert_close(plain, INPUTS.to_network(stamps, "nanomaggy"), atol=1e-4, rtol=0)


def test_pictures_cannot_be_observed_anew_but_be_blurred() -> None:
    pictures = torch.zeros(3, 3, SIZE, SIZE, dtype=torch.uint8)
    pictures[:, :, SIZE // 2, SIZE // 2] = 255
    with pytest.raises(ValueError, match="'rgb' have no fluxes"):
        augmented_input(pictures, "rgb", INPUTS, STILL, generator(), Reobservation(observed(3), survey()))
    sharp, soft = (
        augmented_input(pictures, "rgb", INPUTS, replace(STILL, blur=blur), generator()) for blur in (0.0, 3.0)
    )
    torch.testing.assert_close(soft.sum(dim=(1, 2, 3)), sharp.sum(dim=(1, 2, 3)), rtol=1e-3, atol=0)
    assert len(soft.amax(dim=(1, 2, 3)).unique()) == 3, "each by its own"
    assert (soft.amax(dim=(1, 2, 3)) < sharp.amax(dim=(1, 2, 3))).all()
