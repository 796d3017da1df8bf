"""A survey's distributions are those of its stamps, and the published ones where it tells nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from galaxy_models.degradation import ShiftedLognormal
from galaxy_models.survey_statistics import ObservedConditions, Quantiles, SurveyStatistics, published

NAN = float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(seeing: torch.Tensor, noise: torch.Tensor, reddening: torch.Tensor) -> ObservedConditions:
    return ObservedConditions(seeing, noise, reddening, torch.full((len(seeing),), 0.262))


def test_draws_follow_a_distribution_of_any_shape() -> None:
    """Two kinds of nights: a lognormal could not say so."""
    chance = np.random.default_rng(0)
    values = np.concatenate([chance.normal(1.0, 0.05, 3000), chance.normal(2.0, 0.1, 1000)])
    drawn = np.sort(Quantiles.of(values).draw(4000, generator()).numpy())
    # the largest difference of two cumulated distributions (Kolmogorov and Smirnov)
    places = np.linspace(0.7, 2.4, 300)
    theirs, ours = (np.searchsorted(np.sort(each), places) / len(each) for each in (values, drawn))
    assert np.abs(theirs - ours).max() < 0.03
    assert Quantiles.of(values).median == pytest.approx(np.median(values), abs=0.01)


def test_one_value_is_drawn_as_it_is() -> None:
    assert Quantiles((1.5,)).draw(3, generator()).tolist() == [1.5, 1.5, 1.5]


def test_bands_and_stamps_are_drawn_apart() -> None:
    survey = published(("g", "r", "z"))
    for drawn in (survey.draw_seeing(4000, generator()), survey.draw_noise(4000, generator())):
        assert torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max() < 0.06
        assert len(drawn[:, 0].unique()) > 3900


def test_the_published_seeing_is_in_arcsec_and_the_noise_in_a_square_arcsec() -> None:
    survey = published(("g", "r", "z"))
    seeing, noise = survey.draw_seeing(8000, generator()), survey.draw_noise(8000, generator())
    assert seeing.median(dim=0).values.tolist() == pytest.approx([1.48, 1.33, 1.24], abs=0.02)
    pixel = noise.median(dim=0).values * 0.262
    assert pixel.tolist() == pytest.approx([0.00309, 0.00437, 0.01174], rel=0.02)
    assert published(("g", "i", "z")).seeing[1] is None
    assert published(("g", "i", "z")).draw_seeing(2, generator())[:, 1].tolist() == [0, 0], "nothing is known of i"


def test_measured_where_stamps_tell_and_published_where_too_few_do() -> None:
    seeing, noise = torch.full((50, 2), 0.8), torch.full((50, 2), 0.02)
    seeing[:45, 1] = NAN
    reddening = torch.linspace(0, 0.1, 50)
    survey = SurveyStatistics.measured(conditions(seeing, noise, reddening), ("g", "r"))
    assert survey.draw_seeing(100, generator())[:, 0].unique().tolist() == pytest.approx([0.8])
    assert isinstance(survey.seeing[1], ShiftedLognormal)
    assert survey.draw_reddening(1000, generator()).mean().item() == pytest.approx(0.05, abs=0.005)


def test_unknown_conditions_count_as_the_survey_median() -> None:
    survey = SurveyStatistics(
        ("g", "i"), (Quantiles((1.0, 2.0, 4.0)), None), (Quantiles((3.0,)),) * 2, Quantiles((0.1,))
    )
    known = conditions(torch.tensor([[NAN, NAN], [5.0, 6.0]]), torch.tensor([[NAN, 1.0]] * 2), torch.tensor([NAN, 0.2]))
    full = survey.completed(known)
    assert full.seeing.tolist() == [[2.0, 0.0], [5.0, 6.0]]
    assert full.noise.tolist() == [[3.0, 1.0]] * 2
    assert full.reddening.tolist() == pytest.approx([0.1, 0.2])


def test_a_card_can_hold_the_statistics() -> None:
    seeing = torch.full((30, 2), 0.8)
    survey = SurveyStatistics.measured(conditions(seeing, torch.full((30, 2), NAN), torch.full((30,), NAN)), ("g", "i"))
    content = json.loads(json.dumps(survey.to_dict(), allow_nan=False))
    assert content["seeing_fwhm_arcsec"]["i"]["values"] == pytest.approx([0.8] * 64)
    assert content["noise_nanomaggy_per_square_arcsec"]["i"] is None
    assert content["reddening"]["shape"] == 0.67306
