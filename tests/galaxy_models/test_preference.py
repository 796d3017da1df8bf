"""The preference learner finds what it was shown, whatever the order of the answers, and shows nothing twice."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.preference import REASONS, Preference, agreement, first_sheet, standardise


def population(count: int, seed: int = 0, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of which three tell, roughly, who is wanted."""
    generator = np.random.default_rng(seed)
    wanted = generator.random(count) < share
    features = generator.normal(size=(count, 12)).astype(np.float32)
    features[wanted, :3] += 1.6
    mean, spread = standardise(features)
    return (features - mean) / spread, wanted


def test_three_examples_find_more_of_their_kind_than_chance_would() -> None:
    features, wanted = population(2000)
    learnt = Preference.learn(features, np.flatnonzero(wanted)[:3], [True] * 3)
    sheet = learnt.propose(16)
    assert len(set(sheet.rows)) == 16 and set(sheet.reasons) == set(REASONS)
    best = sheet.rows[np.array(sheet.reasons) == "best"]
    assert wanted[best].mean() > 3 * wanted.mean()


def test_a_row_without_features_never_comes() -> None:
    features, _ = population(60)
    features[7] = np.nan
    learnt = Preference.learn(features, [0, 1], [True, False])
    assert 7 not in learnt.propose(60).rows and 7 not in first_sheet(features, 60, seed=0).rows
    assert np.isnan(learnt.probabilities([7])[0]) and np.isfinite(learnt.probabilities([8])[0])
    with pytest.raises(ValueError, match="row 7 is labelled and has no features"):
        Preference.learn(features, [7], [True])


def test_kappa_is_one_for_alike_zero_for_chance_and_below_for_opposites() -> None:
    generator = np.random.default_rng(0)
    answers = generator.random(4000) < 0.3
    assert agreement(answers, answers) == 1
    assert agreement(answers, generator.permutation(answers)) == pytest.approx(0, abs=0.05)
    assert agreement([True, False], [False, True]) == -1
    assert agreement([True, True], [True, True]) == 1
