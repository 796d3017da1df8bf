"""The realism report: its measures find what was put in, its probe knows same from different, and it is honest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxy_models.photometry import viewer_rgb
from galaxy_models.simulation.scene import draw_object, draw_stamp
from infra.settings import Settings
from tasks.preprocess.realism import _matched, probe, read_real, realism_report
from tasks.preprocess.realism_measures import flux_of_viewer, flux_of_zoo, measure, zoo_picture


@pytest.fixture(scope="module")
def fluxes() -> np.ndarray:
    return np.stack([draw_stamp(draw_object(8, index), 152).flux for index in range(36)])


@pytest.fixture(scope="module")
def pictures(fluxes: np.ndarray) -> np.ndarray:
    return viewer_rgb(torch.from_numpy(fluxes), ("g", "r", "z")).numpy()


def test_viewer_stretch_is_undone_where_nothing_was_clipped() -> None:
    flux = np.random.default_rng(0).uniform(0.0, 0.02, (2, 3, 16, 16)).astype(np.float32)
    rgb = viewer_rgb(torch.from_numpy(flux), ("g", "r", "z")).numpy()
    np.testing.assert_allclose(flux_of_viewer(rgb), flux, rtol=1e-3, atol=1e-4)


def test_galaxy_zoo_stretch_is_undone_to_a_grey_level() -> None:
    flux = np.random.default_rng(0).uniform(0.0, 2.0, (1, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(flux_of_zoo(zoo_picture(flux)), flux, rtol=0.02, atol=3e-4)


def test_measures_find_a_known_galaxy() -> None:
    y, x = np.mgrid[:152, :152] - 75.5
    ellipse = np.exp(-1.678 * np.hypot(x, y) / 12.0)  # exponential, half-light radius 12 pixels
    bands = np.stack([ellipse * amount for amount in (0.5, 1.0, 1.6)])
    noise = 0.001 * np.random.default_rng(0).standard_normal(bands.shape)
    found = measure([bands + noise]).iloc[0]
    assert found["half_light_share"] * 152 == pytest.approx(12, rel=0.1)
    assert found["g_r"] == pytest.approx(2.5 * np.log10(2), abs=0.02)
    assert found["r_z"] == pytest.approx(2.5 * np.log10(1.6), abs=0.02)
    assert found["axis_ratio"] > 0.97 and abs(found["asymmetry"]) < 0.02
    assert found["sky_noise"] == pytest.approx(-3, abs=0.05)


def test_blank_picture_has_no_galaxy_measures() -> None:
    found = measure([np.zeros((3, 64, 64), np.float32)]).iloc[0]
    assert np.isnan(found["g_r"]) and np.isnan(found["concentration"])


def test_probe_is_blind_to_equal_sets_and_sees_different_ones() -> None:
    generator = np.random.default_rng(0)
    one, two = (pd.DataFrame(generator.standard_normal((300, 2)), columns=["a", "b"]) for _ in range(2))
    assert probe(one, two, ("a", "b")) == pytest.approx(0.5, abs=0.07)
    assert probe(one, two + 3, ("a", "b")) > 0.98


def test_matching_takes_a_difference_in_brightness_away_and_leaves_the_rest() -> None:
    generator = np.random.default_rng(0)
    faint = pd.DataFrame({"brightness": generator.normal(0, 1, 600), "shape": generator.normal(0, 1, 600)})
    bright = pd.DataFrame({"brightness": generator.normal(1, 1, 400), "shape": generator.normal(2, 1, 400)})
    one, two = _matched(faint, bright, "brightness")
    assert len(one) == len(two) > 200
    assert probe(faint, bright, ("brightness",)) > 0.7 > probe(one, two, ("brightness",)) + 0.1
    assert probe(one, two, ("shape",)) > 0.88


def test_report_without_real_images_says_so(pictures: np.ndarray, tmp_path: Path) -> None:
    report = realism_report(pictures, tmp_path / "nothing", tmp_path / "report")
    assert "no comparison" in report["note"]
    assert report["metrics"]["real"] == 0 and not any("probe" in name for name in report["metrics"])
    assert np.isfinite(report["metrics"]["simulated.g_r.median"])
    with Image.open(report["figures"][0]) as figure:
        assert figure.size[0] > 500


def test_report_compares_with_a_sky_folder(pictures: np.ndarray, fluxes: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "sky" / "decals_rings" / "images"
    folder.mkdir(parents=True)
    for i, picture in enumerate(zoo_picture(fluxes)):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{i}.jpg", quality=97)
    (folder / "broken.jpg").write_bytes(b"not an image")
    report = realism_report(pictures, tmp_path / "sky", tmp_path / "report")
    assert report["metrics"]["real"] == len(fluxes)
    # The same galaxies on both sides: nothing tells them apart.
    assert report["metrics"]["probe_auc_galaxy"] < 0.7
    assert report["metrics"]["real.g_r.median"] == pytest.approx(report["metrics"]["simulated.g_r.median"], abs=0.03)


def test_real_galaxies_have_the_colours_of_galaxies() -> None:
    sky = Settings.from_environment().sky
    if not (sky / "decals_rings").is_dir():
        pytest.skip(f"no sky folder at {sky}")
    found = measure(read_real(sky, most=30))
    assert 0.5 < found["g_r"].median() < 0.95 and 0.3 < found["r_z"].median() < 0.7
