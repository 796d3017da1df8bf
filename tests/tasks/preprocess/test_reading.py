"""What is recorded beside a prepared dataset makes the same input from raw stamps as the models' own code."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from galaxy_models.inputs import InputSpec
from infra.errors import GalaxyError
from tasks.preprocess.reading import model_input, reading_of


def dataset_of(units, bands, stamp_size):
    return SimpleNamespace(units=units, bands=bands, stamp_size=stamp_size, root="here")


@pytest.mark.parametrize(
    ("units", "bands", "side", "crop"),
    [("nanomaggy", "grz", 152, 128), ("nanomaggy", "gri", 69, 64), ("rgb", "RGB", 152, 128), ("rgb", "RGB", 64, 64)],
)
def test_recorded_numbers_make_the_models_input(scene, units, bands, side, crop):
    frame = scene(4, side=side).disk(peak=3).star(peak=50, x=-10, y=8)
    images = frame.display() if units == "rgb" else frame.images.astype(np.float16)
    recorded = json.loads(json.dumps(reading_of(dataset_of(units, tuple(bands), side))))
    ours = model_input(images, recorded)
    flux_bands = tuple(bands) if units == "nanomaggy" else ("g", "r", "z")
    spec = InputSpec(flux_bands, recorded["stamp_size"], recorded["crop"], 1, (0.262, 0.262), False)
    theirs = spec.to_network(torch.from_numpy(images), recorded["units"]).numpy()
    assert recorded["crop"] == crop and ours.shape == (4, 3, crop, crop)
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert ours.max() > 0.9 and ours.std() > 0.01
    assert recorded["dtype"] == str(images.dtype)


def test_empty_sky_is_black_and_not_infinite():
    recorded = reading_of(dataset_of("nanomaggy", ("g", "r", "z"), 64))
    none = np.full((1, 3, 64, 64), -recorded["stretch"]["softening"], np.float16)
    assert np.isfinite(model_input(none, recorded)).all()


def test_what_models_cannot_take_is_refused():
    with pytest.raises(GalaxyError, match=r"bands u, g, r.*three of g, r, i, z"):
        reading_of(dataset_of("nanomaggy", ("u", "g", "r"), 64))
    recorded = reading_of(dataset_of("rgb", ("R", "G", "B"), 64))
    with pytest.raises(GalaxyError, match="'sinh' is unknown"):
        model_input(np.zeros((1, 3, 64, 64), np.uint8), {**recorded, "stretch": {"name": "sinh"}})
