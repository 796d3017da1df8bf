"""The sky that a survey left in a stamp: known offsets, slopes and errors come out in units of the noise."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.preprocess.background import measure_background, noise_over_errors
from tasks.preprocess.measure import measure_stamps
from tasks.preprocess.sky import measure_sky

BANDS = ("g", "r", "z")


def background_of(images, quantised=False):
    return measure_background(measure_sky(images, quantised), images.shape[-1])


def tilted(frame, offset, gradient, direction=0.6):
    """The frame on a sky that lies `offset` sigmas above zero in its centre and rises by `gradient` sigmas across."""
    rise = (frame.x * np.cos(direction) + frame.y * np.sin(direction)) / frame.side
    frame.images += ((offset + gradient * rise) * frame.NOISE[:, None, None]).astype(np.float32)
    return frame.images.astype(np.float16)


@pytest.mark.parametrize("side", [64, 152])
@pytest.mark.parametrize(("offset", "gradient"), [(0.0, 0.0), (0.3, 0.0), (-0.5, 0.6), (0.2, 2.0), (-0.1, 6.0)])
def test_offset_and_gradient_that_were_put_in_come_out(scene, side, offset, gradient):
    found, rise = background_of(tilted(scene(16, side=side), offset, gradient))
    np.testing.assert_allclose(np.median(found, axis=0), offset, atol=0.03)
    np.testing.assert_allclose(np.median(rise, axis=0), gradient, rtol=0.03, atol=0.16 if side == 64 else 0.08)


def test_sources_are_no_background(scene):
    """A galaxy, a bright star on the border, and a galaxy that covers one whole side."""
    frame = scene(16).disk().star(peak=2, x=70, y=-20).disk(peak=0.5, scale=5, axis_ratio=0.1, x=0, y=-72)
    found, rise = background_of(tilted(frame, 0.2, 1.0))
    np.testing.assert_allclose(np.median(found, axis=0), 0.2, atol=0.1)
    np.testing.assert_allclose(np.median(rise, axis=0), 1.0, atol=0.15)


def test_a_part_without_data_changes_nothing(scene):
    images = tilted(scene(16), 0.4, 1.0, direction=0)
    images[:, :, 100:] = 0
    sky = measure_sky(images, quantised=False)
    found, rise = measure_background(sky, 152)
    np.testing.assert_allclose(np.median(found, axis=0), 0.4, atol=0.06)
    np.testing.assert_allclose(np.median(rise, axis=0), 1.0, atol=0.15)
    np.testing.assert_allclose(np.median(sky.noise, axis=0), scene.NOISE, rtol=0.04)


def test_no_noise_no_answer():
    found, rise = background_of(np.zeros((2, 3, 64, 64), np.float16))
    assert np.isnan(found).all() and np.isnan(rise).all()


def test_the_level_of_a_picture_is_its_own_choice_but_its_slope_is_not(scene):
    frame = scene(8).disk()
    frame.images += (0.03 * frame.x / frame.side).astype(np.float32)
    measured = measure_stamps(frame.display(), "rgb", ("R", "G", "B"))
    assert measured[["background_R", "background_G", "background_B"]].isna().all(axis=None)
    flat = measure_stamps(scene(8).disk().display(), "rgb", ("R", "G", "B"))
    assert measured["gradient_R"].median() > 5 * flat["gradient_R"].median()


def test_noise_is_compared_with_the_survey_s_own_errors(scene):
    images = scene(6).disk().images
    invvar = np.broadcast_to(1 / scene.NOISE[:, None, None] ** 2, images.shape).astype(np.float32).copy()
    invvar[1] /= 4  # errors twice as large as the scatter
    invvar[2, :, :60] = 0  # a part without data, where there is light all the same
    invvar[3] = 0
    ratio = noise_over_errors(images.astype(np.float16), invvar)
    np.testing.assert_allclose(ratio[[0, 2, 4, 5]], 1, atol=0.1)
    np.testing.assert_allclose(ratio[1], 0.5, atol=0.05)
    assert np.isnan(ratio[3]).all()
    measured = measure_stamps(images.astype(np.float16), "nanomaggy", BANDS, invvar)
    np.testing.assert_array_equal(measured["noise_over_errors_r"], ratio[:, 1])
    np.testing.assert_allclose(measured["coverage"], [1, 1, 92 / 152, 1, 1, 1])
    assert "noise_over_errors_r" not in measure_stamps(images, "nanomaggy", BANDS)
