"""Lensed arcs against what gravitational lensing says they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from galaxy_models.simulation.lensing import LensSystem, draw_system, lens_models, lensed_arc, render

SPHERE = LensSystem(
    einstein_radius=3.0,
    deflector_ellipticity=(0.0, 0.0),
    shear=(0.0, 0.0),
    source_position=(0.0, 0.0),
    source_radius=0.15,
    source_sersic=1.0,
    source_ellipticity=(0.0, 0.0),
    source_magnitude=22.5,
    spectral_slope=0.0,
)
SHARP = {"size": 101, "pixel_scale": 0.1, "psf_fwhm": (0.1,), "bands": "r"}


def radii_of(size: int, pixel_scale: float) -> np.ndarray:
    offsets = (np.arange(size) - (size - 1) / 2) * pixel_scale
    return np.hypot(offsets[:, None], offsets[None, :])


def test_source_behind_the_centre_of_a_sphere_is_a_ring_at_the_einstein_radius() -> None:
    flux = render(SPHERE, **SHARP).flux[0].astype(float)
    radii = radii_of(101, 0.1)
    assert np.average(radii, weights=flux) == pytest.approx(3.0, rel=0.02)
    on_ring = flux[np.abs(radii - 3.0) < 0.05]
    assert on_ring.min() > 0.7 * on_ring.max()  # as bright all around
    assert flux[50, 50] < 0.01 * on_ring.mean()


def test_images_of_an_offset_source_obey_the_lens_equation() -> None:
    system = replace(SPHERE, source_position=(1.0, 0.0), source_radius=0.05)
    flux = render(system, **SHARP).flux[0]
    row, column = np.unravel_index(np.argmax(flux), flux.shape)
    # an isothermal sphere has theta = beta + theta_E on the source's side and beta - theta_E beyond
    assert ((column - 50) * 0.1, (row - 50) * 0.1) == (pytest.approx(4.0, abs=0.11), pytest.approx(0.0, abs=0.06))
    beyond = flux.copy()
    beyond[:, 50:] = 0
    row, column = np.unravel_index(np.argmax(beyond), flux.shape)
    assert ((column - 50) * 0.1, (row - 50) * 0.1) == (pytest.approx(-2.0, abs=0.11), pytest.approx(0.0, abs=0.06))


def test_peak_of_an_ellipsoid_with_shear_maps_back_onto_the_source() -> None:
    system = replace(SPHERE, deflector_ellipticity=(0.15, 0.05), shear=(0.03, -0.04), source_position=(0.9, 0.7))
    flux = render(replace(system, source_radius=0.05), **SHARP).flux[0]
    row, column = np.unravel_index(np.argmax(flux), flux.shape)
    lens, arguments = lens_models(system)
    x, y = lens.ray_shooting((column - 50) * 0.1, (row - 50) * 0.1, arguments)
    assert np.hypot(x - 0.9, y - 0.7) < 0.06


@pytest.mark.parametrize("distance", [0.8, 1.5])
def test_magnification_of_a_small_source_is_that_of_the_isothermal_sphere(distance: float) -> None:
    system = replace(SPHERE, source_position=(distance, 0.0), source_radius=0.04)
    arc = render(system, **{**SHARP, "pixel_scale": 0.13})
    # two images, 1 + theta_E / beta and theta_E / beta - 1
    assert arc.magnification == pytest.approx(2 * 3.0 / distance, rel=0.05)


def test_lensing_adds_area_and_keeps_surface_brightness() -> None:
    broad = replace(SPHERE, source_position=(1.2, 0.0), source_radius=0.4, source_sersic=0.7)
    unlensed = replace(broad, einstein_radius=1e-6)
    arc, source = render(broad, **SHARP), render(unlensed, **SHARP)
    assert source.magnification == pytest.approx(1.0, rel=0.03)
    assert arc.magnification > 2
    assert arc.flux.max() == pytest.approx(source.flux.max(), rel=0.05)


def test_flux_follows_magnitude_and_colour() -> None:
    faint = render(replace(SPHERE, source_magnitude=23.0), **SHARP)
    bright = render(replace(SPHERE, source_magnitude=20.5), **SHARP)
    assert bright.flux.sum() == pytest.approx(10 * faint.flux.sum(), rel=1e-4)
    assert faint.flux.sum() == pytest.approx(faint.magnification * 10 ** (-0.4 * 0.5), rel=0.03)
    two = render(replace(SPHERE, spectral_slope=-0.5), size=61, pixel_scale=0.2, psf_fwhm=(0.3, 0.3), bands="gz")
    assert two.flux[0].sum() > two.flux[1].sum()  # a falling spectrum is blue


def test_psf_moves_light_but_loses_none() -> None:
    small = replace(SPHERE, einstein_radius=1.5)
    sharp = render(small, size=121, pixel_scale=0.1, psf_fwhm=(0.1,), bands="r")
    blurred = render(small, size=121, pixel_scale=0.1, psf_fwhm=(1.0,), bands="r")
    assert blurred.flux.sum() == pytest.approx(sharp.flux.sum(), rel=0.03)
    assert blurred.flux.max() < 0.6 * sharp.flux.max()


def test_same_generator_state_same_arc_and_others_differ() -> None:
    geometry = {"size": 64, "pixel_scale": 0.262, "psf_fwhm": (1.3, 1.2, 1.1), "bands": "grz"}
    first = lensed_arc(np.random.default_rng([3, 5]), **geometry)
    again = lensed_arc(np.random.default_rng([3, 5]), **geometry)
    other = lensed_arc(np.random.default_rng([3, 6]), **geometry)
    assert first.flux.tobytes() == again.flux.tobytes()
    assert first.flux.dtype == np.float32 and first.flux.shape == (3, 64, 64)
    assert not np.array_equal(first.flux, other.flux)


def test_drawn_systems_are_strong_lenses_and_given_values_are_kept() -> None:
    for seed in range(30):
        system = draw_system(np.random.default_rng(seed))
        assert np.hypot(*system.source_position) < 0.5 * system.einstein_radius
    given = draw_system(np.random.default_rng(0), einstein_radius=2.5, source_magnitude=21.0)
    assert (given.einstein_radius, given.source_magnitude) == (2.5, 21.0)
    # what is given does not shift the other draws
    assert given.shear == draw_system(np.random.default_rng(0)).shear


def test_mask_covers_the_bright_part_of_the_arc() -> None:
    arc = render(SPHERE, size=101, pixel_scale=0.1, psf_fwhm=(0.5,), bands="r")
    radii = radii_of(101, 0.1)
    assert arc.mask[np.abs(radii - 3.0) < 0.05].all()
    assert not arc.mask[np.abs(radii - 3.0) > 1.0].any()


def test_bands_and_psf_must_fit() -> None:
    with pytest.raises(ValueError, match="as many PSF widths"):
        render(SPHERE, size=32, pixel_scale=0.2, psf_fwhm=(1.0, 1.0), bands="grz")
    with pytest.raises(ValueError, match="band 'q'"):
        render(SPHERE, size=32, pixel_scale=0.2, psf_fwhm=(1.0,), bands="q")
