"""Stamps from a cutout service's answers: pixels without a value are counted, other sizes refused."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tasks.ingest.cutout_answers import Cutout, flux_stamp_of, picture_stamp_of
from tasks.stamps.stamp import Refusal
from tests.doubles.cutout_sky import to_fits

SIZE, SCALE = 32, 0.262


def test_pixels_without_a_value_are_zero_and_counted() -> None:
    asked = Cutout(150.0, 2.0, SIZE, SCALE, "grz")
    planes = np.ones((3, SIZE, SIZE), np.float32)
    planes[1, :8] = np.nan
    stamp = flux_stamp_of(to_fits(planes, None, 150.0, 2.0, "grz", SCALE), asked)
    assert stamp.columns == {"pixel_scale": SCALE, "coverage": 0.75}
    assert (stamp.image[1, :8] == 0).all() and (stamp.image[0] == 1).all()
    planes[1] = np.nan
    answer = flux_stamp_of(to_fits(planes, None, 150.0, 2.0, "grz", SCALE), asked)
    assert answer == Refusal("no coverage", "no_coverage", "no data in r")
    planes[1] = 1e6
    assert flux_stamp_of(to_fits(planes, None, 150.0, 2.0, "grz", SCALE), asked).reason == "pixels out of range"


def test_a_picture_of_another_size_is_refused() -> None:
    file = io.BytesIO()
    Image.effect_noise((40, 32), 60).convert("RGB").save(file, "JPEG")
    answer = picture_stamp_of(file.getvalue(), Cutout(150.0, 2.0, SIZE, SCALE, "grz"))
    assert answer == Refusal("wrong size", detail="40 x 32 px came, 32 were asked for")
