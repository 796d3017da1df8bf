"""How stamps were observed, as catalogues tell it."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.survey_statistics import Quantiles
from tasks.preprocess.prepared import PreparedDataset
from tasks.train.observed import observed_conditions, reobservation

NAN = float("nan")


def test_conditions_are_those_of_the_catalogue_and_noise_is_of_a_square_arcsecond() -> None:
    table = pd.DataFrame(
        {"pixel_scale": [0.25, NAN], "psf_size_g": [1.2, 1.4], "noise_g": [0.01, 0.01], "ebv": [0.02, 0.0]}
    )
    found = observed_conditions(table, ("g",))
    assert found.seeing[:, 0].tolist() == pytest.approx([1.2, 1.4])
    assert found.noise[:, 0].tolist() == pytest.approx([0.04, 0.01 / 0.262])
    assert found.reddening.tolist() == pytest.approx([0.02, 0.0])
    assert found.pixel_scale.tolist() == pytest.approx([0.25, 0.262])


def test_noise_that_was_not_measured_comes_from_the_depth() -> None:
    """1 / noise^2 = depth 4 pi (FWHM / 2.3548 / pixel)^2, as the survey itself relates them."""
    scale, fwhm, noise = 0.262, 1.3, 0.004
    depth = 1 / (noise**2 * 4 * math.pi * (fwhm / 2.3548 / scale) ** 2)
    table = pd.DataFrame(
        {"pixel_scale": [scale] * 3, "psf_size_r": [fwhm] * 3, "depth_r": [depth] * 3, "noise_r": [NAN, 0.007, 0.0]}
    )
    found = observed_conditions(table, ("r",))
    assert (found.noise[:, 0] * scale).tolist() == pytest.approx([noise, 0.007, noise], rel=1e-4)


def test_what_a_catalogue_does_not_tell_or_cannot_mean_is_unknown() -> None:
    table = pd.DataFrame({"pixel_scale": [0.262] * 2, "psf_size_g": [0.0, -1.0], "ebv": [-99.0, None]})
    found = observed_conditions(table, ("g", "r"))
    assert np.isnan(found.seeing.numpy()).all() and np.isnan(found.noise.numpy()).all()
    assert np.isnan(found.reddening.numpy()).all()


def prepared(table: pd.DataFrame, units: str) -> PreparedDataset:
    dataset = SimpleNamespace(units=units, bands=("g", "r", "z"))
    fake = SimpleNamespace(dataset=dataset, names=list(table.columns), columns=lambda names: table[names])
    return cast(PreparedDataset, fake)


def test_the_survey_is_measured_on_its_train_stamps_and_every_stamp_keeps_its_own() -> None:
    """Held-out stamps were taken in a worse seeing, which must not be drawn."""
    seeing = np.where(np.arange(60) < 40, 1.1, 3.0)
    table = pd.DataFrame({"pixel_scale": 0.262, "psf_size_g": seeing, "ebv": 0.05, "object_id": "other"})
    found = reobservation(prepared(table, "nanomaggy"), np.arange(40))
    assert found is not None
    assert found.survey.seeing[0] == Quantiles((1.1,) * 64)
    assert found.survey.reddening.median == pytest.approx(0.05)
    assert not isinstance(found.survey.noise[1], Quantiles), (
        "the table tells nothing of noise in r; it is the published"
    )
    assert found.of(torch.tensor([50, 3]), "cpu").own.seeing[:, 0].tolist() == pytest.approx([3.0, 1.1])
    assert reobservation(prepared(table, "rgb"), np.arange(40)) is None, "pictures have no fluxes"
