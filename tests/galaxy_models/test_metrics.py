"""Figures of merit against scikit-learn and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from galaxy_models import metrics


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 300)
    scores = np.round(generator.random((300, 4)) + 0.4 * np.eye(4)[truth], 2)  # two digits: ties occur
    return truth, scores, scores.argmax(axis=1)


def test_class_metrics_agree_with_scikit_learn(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, scores, predicted = drawn
    assert metrics.accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    assert metrics.balanced_accuracy(truth, predicted) == pytest.approx(
        reference.balanced_accuracy_score(truth, predicted)
    )
    assert (metrics.confusion_matrix(truth, predicted, 4) == reference.confusion_matrix(truth, predicted)).all()
    expected = np.mean([reference.roc_auc_score(truth == code, scores[:, code]) for code in range(4)])
    assert metrics.macro_auc(truth, scores) == pytest.approx(expected)
    assert metrics.average_precision(truth == 1, scores[:, 1]) == pytest.approx(
        reference.average_precision_score(truth == 1, scores[:, 1])
    )


def test_classes_that_do_not_occur_are_left_out_of_the_macro_auc(drawn: tuple[np.ndarray, ...]) -> None:
    truth, scores, _ = drawn
    kept = truth != 2
    expected = np.mean([reference.roc_auc_score(truth[kept] == code, scores[kept, code]) for code in (0, 1, 3)])
    assert metrics.macro_auc(truth[kept], scores[kept]) == pytest.approx(expected)
    assert math.isnan(metrics.auc([True, True], [0.1, 0.2]))
    assert math.isnan(metrics.macro_auc(np.zeros(3, int), np.zeros((3, 2))))


def test_precision_at_counts_the_head_of_the_list_and_shares_ties() -> None:
    positive, scores = [True, False, True, False, False], [0.9, 0.8, 0.5, 0.5, 0.1]
    assert metrics.precision_at(positive, scores, 1) == 1
    assert metrics.precision_at(positive, scores, 2) == 0.5
    assert metrics.precision_at(positive, scores, 3) == pytest.approx((1 + 0.5) / 3)
    assert metrics.precision_at(positive, scores, 99) == pytest.approx(2 / 5)


def test_empty_inputs_give_nan_and_no_error() -> None:
    for value in (
        metrics.accuracy([], []),
        metrics.balanced_accuracy([], []),
        metrics.average_precision([False], [0.3]),
        metrics.precision_at([], [], 5),
        metrics.bootstrap_interval(lambda x: float(np.mean(x)), [], seed=0)[0],
    ):
        assert math.isnan(value)


def test_psnr_of_a_known_error() -> None:
    clean = torch.full((2, 3, 8, 8), 0.5)
    noisy = clean + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert metrics.psnr(noisy, clean).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_ssim_is_1_for_the_same_and_follows_the_formula_for_flat_images() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert float(metrics.ssim(image, image)) == pytest.approx(1, abs=1e-5)
    first, second = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)
    assert float(metrics.ssim(first, second)) == pytest.approx(expected, rel=1e-4)


def test_ssim_agrees_with_a_direct_sum_at_one_window() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.rand(1, 1, 11, 11, generator=generator, dtype=torch.double) for _ in range(2))
    offset = torch.arange(11, dtype=torch.double) - 5
    weights = torch.exp(-0.5 * (offset / 1.5) ** 2)
    weights = torch.outer(weights, weights) / weights.sum() ** 2
    mean1, mean2 = ((weights * x[0, 0]).sum() for x in (first, second))
    var1, var2 = ((weights * (x[0, 0] - m) ** 2).sum() for x, m in ((first, mean1), (second, mean2)))
    cov = (weights * (first[0, 0] - mean1) * (second[0, 0] - mean2)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean1 * mean2 + c1) * (2 * cov + c2) / ((mean1**2 + mean2**2 + c1) * (var1 + var2 + c2))
    assert float(metrics.ssim(first, second)) == pytest.approx(float(expected), abs=1e-4)


def test_nearest_goes_by_direction_and_can_leave_out_the_query() -> None:
    gallery = np.array([[1.0, 0], [10, 1], [0, 1], [-1, 0]])
    assert metrics.nearest([[5, 0]], gallery, 4).tolist() == [[0, 1, 2, 3]]
    alone = metrics.nearest(gallery, gallery, 1, exclude_self=True)
    assert alone[:2].tolist() == [[1], [0]] and (alone[:, 0] != np.arange(4)).all()


def test_knn_precision_is_the_share_of_like_neighbours() -> None:
    gallery, codes = np.array([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1]]), np.array([0, 0, 1, 1])
    hits = metrics.knn_precision([[1, 0], [0, 1]], [0, 1], gallery, codes, count=2)
    assert hits.tolist() == [1.0, 1.0]
    assert metrics.knn_precision([[1, 0]], [0], gallery, codes, count=4).tolist() == [0.5]


def test_linear_probe_finds_a_direction_whatever_its_scale_and_the_size_of_the_classes() -> None:
    generator = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [500, 40, 40])
    centres = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3e-3, 0]])
    spread = np.array([1.0, 1e-3, 1e3])
    vectors = centres[codes] + generator.normal(size=(580, 3)) * spread
    asked = centres[[0, 1, 2]].repeat(200, axis=0) + generator.normal(size=(600, 3)) * spread
    found = metrics.linear_probe(asked, vectors, codes)
    assert metrics.balanced_accuracy(np.repeat([0, 1, 2], 200), found) > 0.8


def test_bootstrap_interval_is_repeatable_and_covers_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = metrics.mean_interval(values, seed=1)
    assert (low, high) == metrics.mean_interval(values, seed=1) != metrics.mean_interval(values, seed=2)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_bootstrap_of_a_paired_statistic_resamples_rows_together() -> None:
    positive = np.array([True] * 5 + [False] * 45)
    low, high = metrics.bootstrap_interval(metrics.auc, positive, positive.astype(float), seed=0, draws=200)
    assert (low, high) == (1, 1), (
        "a perfect ranking stays perfect in every draw, and draws without positives are left out"
    )
