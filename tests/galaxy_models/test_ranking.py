"""Ranked lists and detections against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.metrics import auc
from galaxy_models.ranking import (
    border_statistics,
    box_average_precision,
    box_overlap,
    completeness_at,
    grouped_probe,
    mask_overlap,
    purity_at_base_rate,
)


def test_completeness_counts_what_the_head_of_the_list_holds() -> None:
    positive, scores = [True, False, True, True], [0.9, 0.8, 0.7, 0.1]
    assert completeness_at(positive, scores, 1) == pytest.approx(1 / 3)
    assert completeness_at(positive, scores, 3) == pytest.approx(2 / 3)
    assert completeness_at(positive, scores, 99) == 1


def test_purity_at_the_base_rate_follows_bayes() -> None:
    positive = np.array([True] * 10 + [False] * 99)
    scores = np.concatenate([np.arange(10, 0, -1), np.full(99, 0.0)])
    scores[10:13] = 5.5  # just below the fifth lens, which has 6
    # no negative of 99 reaches the fifth lens: (0 + 1) / (99 + 1)
    expected = 0.5 * 5e-4 / (0.5 * 5e-4 + 0.01 * (1 - 5e-4))
    assert purity_at_base_rate(positive, scores, 0.5, 5e-4) == pytest.approx(expected)
    scores[10:13] = 6.5
    expected = 0.5 * 5e-4 / (0.5 * 5e-4 + 0.04 * (1 - 5e-4))
    assert purity_at_base_rate(positive, scores, 0.5, 5e-4) == pytest.approx(expected)


def test_a_list_that_is_pure_among_many_is_not_pure_where_lenses_are_rare() -> None:
    positive = np.array([True] * 50 + [False] * 50)
    perfect = positive.astype(float)
    assert purity_at_base_rate(positive, perfect, 0.5, 1 / 2000) < 0.05


def test_overlap_of_boxes_and_masks() -> None:
    assert box_overlap([[0, 0, 2, 2]], [[1, 0, 3, 2]])[0, 0] == pytest.approx(1 / 3)
    assert box_overlap([[0, 0, 1, 1]], [[5, 5, 6, 6]])[0, 0] == 0
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2] = True
    assert mask_overlap(mask, mask.T) == pytest.approx(4 / 12)


def test_average_precision_of_detections() -> None:
    truth = [[[0, 0, 10, 10]], [[0, 0, 10, 10]], []]
    right, wrong = [0, 0, 10, 9], [20, 20, 30, 30]
    assert box_average_precision([[[*right, 0.9]], [[*right, 0.8]], []], truth) == 1
    # the second hit comes after a false one on the image without an arc: 1/2 * 1 + 1/2 * 2/3
    found = [[[*right, 0.9]], [[*right, 0.5]], [[*wrong, 0.7]]]
    assert box_average_precision(found, truth) == pytest.approx(0.5 + 0.5 * 2 / 3)
    # one box can be found once only
    assert box_average_precision([[[*right, 0.9], [*right, 0.8]], [], []], truth) == pytest.approx(0.5)
    assert np.isnan(box_average_precision([[], []], [[], []]))


def test_probe_is_blind_to_groups_it_is_tested_on() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 3)
    labels = (np.arange(60) % 2 == 0)[groups]
    # a fingerprint of each group tells nothing about other groups ...
    fingerprint = generator.normal(size=(60, 30))[groups]
    assert abs(auc(labels, grouped_probe(fingerprint, labels, groups.tolist())) - 0.5) < 0.2
    # ... a real difference does
    real = fingerprint + 3 * labels[:, None]
    assert auc(labels, grouped_probe(real, labels, groups.tolist())) > 0.95


def test_probe_needs_enough_groups() -> None:
    with pytest.raises(ValueError, match="as many groups"):
        grouped_probe(np.zeros((4, 2)), [True, False, True, False], [0, 1, 2, 3])


def test_border_statistics_see_the_frame_and_nothing_else() -> None:
    image = np.random.default_rng(1).uniform(size=(1, 3, 40, 40))
    changed = image.copy()
    changed[:, :, 8:-8, 8:-8] = 0
    np.testing.assert_array_equal(border_statistics(image), border_statistics(changed))
    brighter = image + 0.1
    assert not np.allclose(border_statistics(image), border_statistics(brighter))
