"""Each flag is raised by what it is named for, in fluxes and in pictures, and not by galaxies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tasks.ingest.survey import Quality
from tasks.preprocess.flags import FLAGS, MEASURES_OF_FLAG, flag_limits, quality_flags, usable_stamps
from tasks.preprocess.measure import measure_stamps

BANDS = ("g", "r", "z")
SEEING = pd.DataFrame({f"psf_size_{band}": [1.36] * 4 for band in BANDS} | {"pixel_scale": [0.262] * 4})


def flags_of(frame, units, minimum_snr=0.0):
    """Flags that most of four stamps of the same scene have."""
    images = frame.images if units == "nanomaggy" else frame.display()
    catalog = SEEING if units == "nanomaggy" else pd.DataFrame({"pixel_scale": [np.nan] * 4})
    measures = measure_stamps(images, units, BANDS)
    quality = Quality(minimum_snr=minimum_snr, flags=list(FLAGS))
    flags = quality_flags(measures, catalog, BANDS, units, images.shape[-1], quality)
    return {name for name in FLAGS if flags[f"flag_{name}"].mean() > 0.5}


@pytest.mark.parametrize("units", ["nanomaggy", "rgb"])
def test_galaxies_have_no_flag(scene, units):
    assert flags_of(scene(4).disk(), units) == set()
    assert flags_of(scene(4).disk(peak=0.1, scale=10, axis_ratio=0.95), units) == set()
    assert flags_of(scene(4).disk(peak=1, scale=9, axis_ratio=0.12), units) == set()
    assert flags_of(scene(4).disk().star(peak=1, x=50, y=40), units) == set()


@pytest.mark.parametrize("units", ["nanomaggy", "rgb"])
def test_a_star_is_a_star(scene, units):
    assert flags_of(scene(4).star(peak=0.3), units) == {"star"}
    assert flags_of(scene(4).star(peak=0.1), units) == {"star"}


@pytest.mark.parametrize("units", ["nanomaggy", "rgb"])
def test_empty_sky_is_blank(scene, units):
    assert "blank" in flags_of(scene(4), units)


@pytest.mark.parametrize("units", ["nanomaggy", "rgb"])
def test_half_a_frame_is_blank(scene, units):
    frame = scene(4).disk()
    frame.images[:, :, :60] = 0 if units == "nanomaggy" else -1
    assert "blank" in flags_of(frame, units)


@pytest.mark.parametrize("units", ["nanomaggy", "rgb"])
def test_a_trail_across_a_galaxys_stamp_is_flagged(scene, units):
    assert flags_of(scene(4).disk().trail(height=0.2), units) == {"trail"}


def test_masked_is_what_the_survey_s_mask_covers_and_nothing_where_it_tells_none(scene):
    measures = measure_stamps(scene(4).disk().images, "nanomaggy", BANDS)
    masked = {}
    for name, catalog in {"told": SEEING.assign(mask_fraction=[0.02, 0.24, 0.26, None]), "not told": SEEING}.items():
        flags = quality_flags(measures, catalog, BANDS, "nanomaggy", 152, Quality())
        masked[name] = flags["flag_masked"].tolist()
    assert masked == {"told": [False, False, True, False], "not told": [False] * 4}


def test_limits_are_told_of_every_flag():
    assert set(MEASURES_OF_FLAG) == set(flag_limits(Quality(), "rgb")) == set(FLAGS)
    assert flag_limits(Quality(minimum_snr=30), "nanomaggy")["faint"] == "S/N < 30"


def test_faint_is_below_the_definitions_limit(scene):
    frame = scene(4).disk(peak=0.05, scale=4)
    assert flags_of(frame, "nanomaggy") == set()
    assert flags_of(frame, "nanomaggy", minimum_snr=1000) == {"faint"}


def test_a_flooded_or_clipped_picture_is_saturated(scene):
    clipped = scene(4).disk().star(peak=1e5, x=40, y=40)
    assert "saturated" in flags_of(clipped, "rgb")
    flooded = scene(4).disk()
    flooded.images[:, 2] += 0.3
    assert "saturated" in flags_of(flooded, "rgb")


def test_crowding_and_what_lies_in_the_skirts_of_something_brighter(scene):
    crowded = scene(4).disk(peak=0.15, scale=2)
    for x, y in [(-50, -50), (0, -50), (50, -50), (-50, 50), (0, 50), (50, 50), (50, 0), (-50, 0)]:
        crowded.star(peak=20, x=x, y=y)
    assert "crowded" in flags_of(crowded, "nanomaggy")
    assert "off_centre" in flags_of(scene(4).disk(peak=3, scale=14, axis_ratio=0.9, x=45, y=10), "nanomaggy")


def test_only_the_definitions_flags_make_a_stamp_unusable(scene):
    flags = pd.DataFrame({f"flag_{name}": [name == "star", name == "trail", False, False] for name in FLAGS})
    valid = np.array([True, True, True, False])
    assert usable_stamps(flags, valid, Quality(flags=["star"])).tolist() == [False, True, True, False]
    assert usable_stamps(flags, valid, Quality(flags=[])).tolist() == [True, True, True, False]
