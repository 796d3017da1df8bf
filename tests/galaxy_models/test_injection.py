"""Arcs put onto stamps: fluxes add, pictures follow the viewer's stretch, masks show what can be seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galaxy_models.injection import (
    LEAST_PEAK_SIGMA,
    border_noise,
    box_of,
    display_to_linear,
    inject_display,
    inject_flux,
    linear_to_display,
    survey_look,
)
from galaxy_models.photometry import VIEWER_SCALES, viewer_rgb

SIDE = 64
NOISE = np.array([0.004, 0.006, 0.012])


def spot(row: float, column: float, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / sigma**2)


def galaxy(seed: int = 0) -> np.ndarray:
    light = spot(32, 32, 4.0) * np.array([0.1, 0.3, 0.6])[:, None, None]
    sky = np.random.default_rng(seed).normal(0, 1, (3, SIDE, SIDE)) * NOISE[:, None, None]
    return (light + sky).astype(np.float32)


def picture_of(flux: np.ndarray) -> np.ndarray:
    return viewer_rgb(torch.from_numpy(flux)[None], ("g", "r", "z"))[0].numpy()


def test_fluxes_add_and_none_is_lost() -> None:
    arc = (spot(20, 40, 2.5) * np.array([0.2, 0.15, 0.2])[:, None, None]).astype(np.float32)
    stamp = galaxy()
    made = inject_flux(stamp, arc)
    assert (made.image - stamp).sum() == pytest.approx(arc.sum(), rel=1e-4)
    x0, y0, x1, y1 = made.box
    assert x0 < 40 < x1 and y0 < 20 < y1
    assert made.mask[20, 40] and not made.mask[32, 32]


def test_an_arc_too_faint_to_be_drawn_is_brightened_to_the_least_significance() -> None:
    arc = (spot(20, 40, 2.5) * 1e-6 * np.ones(3)[:, None, None]).astype(np.float32)
    stamp = galaxy()
    added = inject_flux(stamp, arc).image - stamp
    significance = np.sqrt(((added / border_noise(stamp)[:, None, None]) ** 2).sum(axis=0)).max()
    assert significance == pytest.approx(LEAST_PEAK_SIGMA, rel=0.02)


def test_display_injection_equals_flux_injection_seen_through_the_viewer() -> None:
    stamp, shape = galaxy(), spot(20, 40, 2.5)
    colour = np.array([0.02, 0.03, 0.04])
    arc = (shape * colour[:, None, None]).astype(np.float32)
    # the arc's peak on a sky of exactly zero, without the constant that the viewer adds to every flux
    scales = np.array([VIEWER_SCALES[band] for band in "grz"])
    peak = linear_to_display((colour * scales)[::-1, None, None])[:, 0, 0]
    by_display = inject_display(picture_of(stamp), shape, peak).image
    by_flux = picture_of(stamp + arc)
    unclipped = (picture_of(stamp).min(axis=0) > 0) & (by_flux.max(axis=0) < 1)
    assert unclipped.mean() > 0.5
    np.testing.assert_allclose(by_display[:, unclipped], by_flux[:, unclipped], atol=2e-3)


def test_stretch_and_its_inverse_cancel() -> None:
    picture = np.random.default_rng(0).uniform(0.02, 0.9, (3, 8, 8))
    np.testing.assert_allclose(linear_to_display(display_to_linear(picture)), picture, rtol=1e-6)


def test_an_arc_behind_a_saturated_galaxy_cannot_be_seen() -> None:
    picture = np.full((3, SIDE, SIDE), 0.05, dtype=np.float32)
    picture[:, 25:40, 25:40] = 1.0
    shape = spot(32, 32, 2.0) + spot(10, 50, 2.0)
    made = inject_display(picture, shape, np.array([0.2, 0.3, 0.6]))
    assert made.mask[10, 50] and not made.mask[25:40, 25:40].any()
    assert made.image.min() >= 0 and made.image.max() <= 1


def test_survey_look_measures_sharpness_and_takes_the_blue() -> None:
    places = [(15, 15), (15, 48), (48, 15), (48, 48)]
    linear = np.zeros((3, SIDE, SIDE))
    for (row, column), blue in zip(places, (True, False, False, False), strict=True):
        linear += spot(row, column, 2.0) * np.array([0.05, 0.08, 0.3] if blue else [0.3, 0.15, 0.05])[:, None, None]
    look = survey_look(linear_to_display(linear)[None])
    assert look.psf_fwhm == pytest.approx(2.0 * 2.355, rel=0.15)
    assert (look.peaks[:, 2] > look.peaks[:, 0]).all()


def test_pictures_without_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="no objects"):
        survey_look(np.zeros((3, 3, SIDE, SIDE)))
    with pytest.raises(ValueError, match="no box"):
        box_of(np.zeros((4, 4), dtype=bool))
