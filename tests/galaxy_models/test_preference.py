"""The preference learner finds what it was shown, whatever the order of the answers, and shows nothing twice."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxy_models.metrics import auc
from galaxy_models.preference import EXAMPLE, REASONS, Preference, agreement, first_sheet, standardise


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


def test_answers_that_the_others_speak_against_are_named_and_few_answers_name_none() -> None:
    features, wanted = population(400, share=0.5)
    features[:, :3] *= 3
    rows = np.arange(60)
    slips = np.array([5, 17, 40])
    answers = wanted[rows].copy()
    answers[slips] = ~answers[slips]
    doubted, said = Preference.learn(features, rows, answers).at_odds()
    assert set(slips) <= set(doubted[:5].tolist()) and len(doubted) < 8
    assert np.array_equal(said, answers[doubted])
    few = Preference.learn(features, rows[:12], answers[:12])
    assert not len(few.at_odds()[0])


SMALL = settings(max_examples=10, deadline=None, derandomize=True)


@SMALL
@given(st.integers(2, 40), st.integers(0, 10_000))
def test_answers_in_another_order_give_the_same_learner(count: int, seed: int) -> None:
    features, _ = population(80)
    generator = np.random.default_rng(seed)
    rows, said = generator.choice(80, count, replace=False), generator.random(count) < 0.5
    order = generator.permutation(count)
    why = np.array(["best", "random", EXAMPLE])[generator.integers(0, 3, count)]
    first = Preference.learn(features, rows, said, reasons=why.tolist(), seed=seed)
    second = Preference.learn(features, rows[order], said[order], reasons=why[order].tolist(), seed=seed)
    assert np.array_equal(first.probabilities(), second.probabilities())
    assert first.propose(16).rows.tolist() == second.propose(16).rows.tolist()
    assert first.remaining() == second.remaining()


@SMALL
@given(st.integers(1, 50), st.integers(1, 30), st.integers(0, 40), st.integers(0, 10_000), st.sampled_from([0, 1, 2]))
def test_a_sheet_shows_nothing_twice_nothing_labelled_and_one_of_a_group(
    labelled: int, count: int, excluded: int, seed: int, kind: int
) -> None:
    features, wanted = population(60)
    generator = np.random.default_rng(seed)
    groups = generator.integers(-1, 15, 60)
    rows = generator.choice(60, labelled, replace=False)
    said = [wanted[rows], np.ones(labelled, bool), np.zeros(labelled, bool)][kind]
    barred = generator.choice(60, excluded, replace=False)
    learnt = Preference.learn(features, rows, said, seed=seed)
    sheet = learnt.propose(count, exclude=barred, groups=groups)
    closed = set(groups[np.concatenate([rows, barred])].tolist()) - {-1}
    shown = groups[sheet.rows]
    free = [row for row in range(60) if row not in {*rows, *barred} and groups[row] not in closed]
    choice = sum(groups[row] == -1 for row in free) + len({groups[row] for row in free} - {-1})
    assert not set(sheet.rows) & {*rows, *barred}
    assert len(set(sheet.rows)) == len(sheet.rows) == len(sheet.reasons) == min(count, choice)
    assert len(set(shown[shown >= 0])) == (shown >= 0).sum() and not closed & set(shown.tolist())
    left = learnt.remaining(exclude=barred)
    assert 0 <= left.low <= left.expected <= left.high <= 60 - len({*rows, *barred})


def test_constant_features_are_legal_and_say_nothing() -> None:
    features = np.ones((50, 6), np.float32)
    mean, spread = standardise(features)
    assert np.array_equal(mean, np.ones(6)) and np.array_equal(spread, np.ones(6))
    learnt = Preference.learn((features - mean) / spread, [0, 1, 2], [True, True, False])
    assert np.ptp(learnt.probabilities()) < 1e-6 and len(learnt.propose(16).rows) == 16


def test_wrong_labels_are_refused() -> None:
    features, _ = population(20)
    for rows, said, what in (
        ([1, 1], [True, False], "row 1 is labelled twice"),
        ([], [], "one of each"),
        ([20], [True], "have rows 0 to 19"),
        ([1, 2], [True], "2 rows, 1 labels"),
    ):
        with pytest.raises(ValueError, match=what):
            Preference.learn(features, rows, said)


def search(features: np.ndarray, wanted: np.ndarray, rounds: int, seed: int = 0) -> Preference:
    rows, why = np.flatnonzero(wanted)[:3], [EXAMPLE] * 3
    for _ in range(rounds):
        sheet = Preference.learn(features, rows, wanted[rows], reasons=why, seed=seed).propose(16)
        rows, why = np.concatenate([rows, sheet.rows]), [*why, *sheet.reasons]
    return Preference.learn(features, rows, wanted[rows], reasons=why, seed=seed)


def test_ten_rounds_find_most_of_a_rare_kind() -> None:
    features, wanted = population(4000, share=0.01)
    learnt = search(features, wanted, 10)
    assert wanted[learnt.rows].sum() > 0.5 * wanted.sum()


def test_the_interval_of_what_is_left_holds_the_truth_nearly_always() -> None:
    held = []
    for seed in range(6):
        features, wanted = population(1500, seed, share=(0.01, 0.04, 0.15)[seed % 3])
        for rounds in (2, 5):
            learnt = search(features, wanted, rounds, seed)
            left, truth = learnt.remaining(), wanted.sum() - wanted[learnt.rows].sum()
            held.append(left.low <= truth <= left.high)
    assert np.mean(held) >= 0.85


def test_what_is_learnt_scores_other_features_and_passes_through_json() -> None:
    features, wanted = population(2000)
    learnt = search(features, wanted, 3)
    others, truth = population(2000, seed=5)
    again = Preference.from_dict(json.loads(json.dumps(learnt.to_dict())), others)
    assert auc(truth, again.probabilities()) > 0.85
