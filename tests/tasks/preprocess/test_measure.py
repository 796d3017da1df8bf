"""The measures mean what they say: noise, fluxes and shapes that were put in come out."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.preprocess.measure import BATCH, measure_stamps, pixel_hash
from tasks.preprocess.sky import measure_sky
from tasks.preprocess.trails import measure_trails

BANDS = ("g", "r", "z")


def test_noise_and_sky_of_empty_frames_are_recovered(scene):
    images = scene(40).images + np.array([0.0, 0.01, -0.02], np.float32)[:, None, None]
    sky = measure_sky(images, quantised=False)
    np.testing.assert_allclose(np.median(sky.noise, axis=0), scene.NOISE, rtol=0.03)
    assert (np.abs(sky.noise / scene.NOISE - 1) < 0.1).all()
    np.testing.assert_allclose(sky.level.mean(axis=0), [0, 0.01, -0.02], atol=0.03 * scene.NOISE.max())
    assert (sky.coverage == 1).all()


def test_a_galaxy_a_star_and_a_slope_leave_noise_alone(scene):
    frame = scene(30).disk(peak=1, scale=12).star(peak=5, x=60, y=-50)
    frame.images += 0.2 * scene.NOISE[:, None, None] * frame.x / 10
    sky = measure_sky(frame.images, quantised=False)
    np.testing.assert_allclose(np.median(sky.noise, axis=0), scene.NOISE, rtol=0.05)


def test_noise_of_pictures_does_not_come_in_steps():
    generator = np.random.default_rng(0)
    true = np.array([1.2, 2.3, 4.4])
    pictures = np.round(40 + generator.normal(0, 1, (20, 3, 152, 152)) * true[:, None, None]).astype(np.uint8)
    sky = measure_sky(pictures, quantised=True)
    np.testing.assert_allclose(np.median(sky.noise, axis=0), np.hypot(true, 12**-0.5), rtol=0.04)


def test_coverage_is_the_share_with_data_in_every_band(scene):
    images = scene(3).images
    images[0, :, :38] = 0
    images[1, 2, :76] = np.nan
    np.testing.assert_allclose(measure_sky(images, quantised=False).coverage, [0.75, 0.5, 1.0])


def test_signal_to_noise_is_that_of_a_matched_aperture(scene):
    """Light over noise summed inside the segment, known from the noiseless image."""
    frame = scene(20).disk(peak=0.3, scale=6, axis_ratio=1)
    measured = measure_stamps(frame.images, "nanomaggy", BANDS)
    clean = scene(1).disk(peak=0.3, scale=6, axis_ratio=1).images[0] - scene(1).images[0]
    weighted = (clean / scene.NOISE[:, None, None]).sum(axis=0) / np.sqrt(3)
    pixels = int(measured["area"].median() * 152**2)
    expected = np.sort(weighted.ravel())[::-1][:pixels].sum() / np.sqrt(pixels)
    assert measured["snr"].median() == pytest.approx(expected, rel=0.15)


def test_correlated_noise_does_not_raise_the_signal_to_noise(scene):
    """Smoothing a frame makes its pixels quieter, but tells nothing more of the galaxy."""
    from scipy import ndimage

    frame = scene(12).disk(peak=0.1, scale=8)
    smooth = ndimage.gaussian_filter(frame.images, (0, 0, 1.0, 1.0))
    sharp, blurred = (measure_stamps(images, "nanomaggy", BANDS) for images in (frame.images, smooth))
    assert blurred["noise_r"].median() < 0.4 * sharp["noise_r"].median()
    assert blurred["snr"].median() == pytest.approx(sharp["snr"].median(), rel=0.25)


def test_radius_elongation_and_place_of_a_disk(scene):
    scale, axis_ratio = 6.0, 0.5
    frame = scene(10).disk(peak=2, scale=scale, axis_ratio=axis_ratio, x=4, y=-3)
    measured = measure_stamps(frame.images, "nanomaggy", BANDS).median(numeric_only=True)
    # half of an exponential's light is within 1.678 scales; the segment ends at 15 % of the peak (1.9 scales)
    assert 0.8 * scale < measured["half_light_radius"] < 1.678 * scale
    assert measured["elongation"] == pytest.approx(1 / axis_ratio, rel=0.1)
    assert measured["offset"] == pytest.approx(5 / 152, abs=0.01)
    twice = scene(10).disk(peak=2, scale=2 * scale, axis_ratio=axis_ratio)
    larger = measure_stamps(twice.images, "nanomaggy", BANDS).median(numeric_only=True)
    assert larger["half_light_radius"] == pytest.approx(2 * measured["half_light_radius"], rel=0.1)


def test_profiles_of_stars_fall_alike_at_any_brightness_and_faster_than_disks(scene):
    falloff = {}
    for name, frame in {
        "bright star": scene(8).star(peak=2),
        "faint star": scene(8).star(peak=0.15),
        "disk": scene(8).disk(peak=0.3),
    }.items():
        falloff[name] = measure_stamps(frame.images, "nanomaggy", BANDS)["falloff"].median()
    assert falloff["bright star"] == pytest.approx(falloff["faint star"], rel=0.08)
    assert falloff["bright star"] < 1.9 < 2.2 < falloff["disk"]


def test_bright_neighbours_are_counted(scene):
    places = [(50, 40), (-45, 50), (30, -55)]
    frame = scene(4).disk()
    for x, y in places:
        frame.star(peak=1, x=x, y=y)
    measured = measure_stamps(frame.images, "nanomaggy", BANDS)
    assert (measured["bright_segments"] == len(places)).all()
    assert (measure_stamps(scene(4).disk().images, "nanomaggy", BANDS)["bright_segments"] == 0).all()


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.57, 2.5])
def test_a_trail_stands_out_at_any_angle(scene, angle):
    with_trail = measure_stamps(scene(3).disk().trail(height=0.05, angle=angle).images, "nanomaggy", BANDS)
    without = measure_stamps(scene(3).disk().images, "nanomaggy", BANDS)
    assert (with_trail["trail"] > 6).all()
    assert (without["trail"] < 3).all()


def test_an_edge_on_galaxy_is_no_trail(scene):
    """It is as thin and longer than the frame, but fades outwards."""
    frame = scene(4).disk(peak=2, scale=18, axis_ratio=0.12)
    assert (measure_stamps(frame.images, "nanomaggy", BANDS)["trail"] < 6).all()


def test_trails_do_not_depend_on_the_stamp_size():
    for side in (64, 152, 300):
        y, x = np.mgrid[:side, :side] / side
        signal = np.where(np.abs(y - 0.3 - 0.4 * x) < 0.02, 20.0, 0.0)
        assert measure_trails(signal[None])[0] > 10


def test_nothing_depends_on_the_other_stamps_of_the_call(scene):
    images = scene(BATCH + 3).disk().images
    together = measure_stamps(images, "nanomaggy", BANDS)
    alone = measure_stamps(images[-1:], "nanomaggy", BANDS)
    assert together.iloc[[-1]].reset_index(drop=True).equals(alone)


def test_frames_without_data_are_measured_and_not_refused(scene):
    images = np.zeros((2, 3, 64, 64), np.float16)
    images[1] = np.nan
    measured = measure_stamps(images, "nanomaggy", BANDS)
    assert (measured["coverage"] == 0).all()
    assert (measured["snr"] == 0).all()


def test_the_hash_is_of_pixels(scene):
    images = scene(2).images
    assert pixel_hash(images[0]) == pixel_hash(images[0].copy()) != pixel_hash(images[1])


@pytest.mark.parametrize(("units", "kind"), [("nanomaggy", np.float16), ("rgb", np.uint8)])
def test_a_shard_without_a_valid_stamp_has_the_columns_of_others(units: str, kind: type) -> None:
    none = measure_stamps(np.zeros((0, 3, 64, 64), kind), units, BANDS)
    one = measure_stamps(np.ones((1, 3, 64, 64), kind), units, BANDS)
    assert len(none) == 0
    assert none.dtypes.to_dict() == one.dtypes.to_dict()
