"""Calibration finds the temperature and the sigma factor that data were made with."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.calibration import (
    SIGMAS_OF_95,
    coverage,
    coverage_curve,
    expected_calibration_error,
    pulls,
    reliability,
    sigma_scale,
    temperature,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.fixture
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn with exactly the probabilities that they say."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (6000, 4))
    uniform = generator.random((6000, 1))
    return logits, (softmax(logits).cumsum(axis=1) < uniform).sum(axis=1)


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_temperature_undoes_what_was_multiplied_in(honest, overconfidence: float) -> None:
    logits, codes = honest
    assert temperature(overconfidence * logits, codes) == pytest.approx(overconfidence, rel=0.06)


def test_temperature_lowers_the_calibration_error(honest) -> None:
    logits, codes = honest
    sure = 4 * logits
    before = expected_calibration_error(softmax(sure), codes)
    after = expected_calibration_error(softmax(sure / temperature(sure, codes)), codes)
    assert after < 0.03 < before


def test_rows_without_a_class_change_nothing_and_few_rows_say_nothing(honest) -> None:
    logits, codes = honest
    padded = np.vstack([logits, 50 * logits[:100]])
    missing = np.concatenate([codes, np.full(100, -1)])
    assert temperature(padded, missing) == temperature(logits, codes)
    assert temperature(9 * logits[:10], codes[:10]) == 1.0


def test_sigma_scale_makes_two_thirds_lie_within_one_sigma() -> None:
    generator = np.random.default_rng(1)
    truth = generator.normal(0, 1, 5000)
    predicted, sigma = truth + generator.normal(0, 0.3, 5000), np.full(5000, 0.1)
    truth[::7] = np.nan
    scale = sigma_scale(truth, predicted, sigma)
    assert scale == pytest.approx(3, rel=0.05)
    assert coverage(truth, predicted, scale * sigma) == pytest.approx(0.683, abs=0.005)
    assert sigma_scale(truth[:5], predicted[:5], sigma[:5]) == 1.0


def test_honest_sigmas_cover_what_their_intervals_promise() -> None:
    generator = np.random.default_rng(2)
    truth, sigma = np.zeros(20_000), generator.uniform(0.5, 2, 20_000)
    predicted = generator.normal(0, sigma)
    levels = np.array([0.1, 0.5, 0.683, 0.95])
    assert coverage_curve(pulls(truth, predicted, sigma), levels) == pytest.approx(levels, abs=0.015)
    assert coverage(truth, predicted, sigma, SIGMAS_OF_95) == pytest.approx(0.95, abs=0.01)
    sure = coverage_curve(pulls(truth, predicted, sigma / 3), levels)
    assert (sure < levels - 0.05).all(), "sigmas that are too small lie below the diagonal"


def test_reliability_counts_every_row_once(honest) -> None:
    logits, codes = honest
    curve = reliability(softmax(logits), codes, bins=5)
    assert curve["count"].sum() == len(codes)
    filled = curve["count"] > 100
    assert np.abs(curve["accuracy"] - curve["confidence"])[filled].max() < 0.06


def test_nothing_to_judge_is_not_a_number() -> None:
    assert np.isnan(coverage(np.array([np.nan]), np.array([1.0]), np.array([1.0])))
    assert np.isnan(expected_calibration_error(np.zeros((0, 3)), np.zeros(0, dtype=int)))
