"""Figures of merit of fine-tuning."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.multitask import HeadScheme
from tasks.train.finetune_scores import Answer, calibrate, class_metrics, parameter_metrics, vote_metrics


def test_rare_classes_are_also_left_out_of_accuracy_and_auc() -> None:
    codes = np.repeat([0, 1, 2], [40, 40, 4])
    probabilities = np.eye(3)[np.where(codes == 2, 0, codes)] * 0.7 + 0.1
    metrics = class_metrics("t", probabilities, codes)
    assert metrics["t.accuracy"] == pytest.approx(80 / 84)
    assert metrics["t.accuracy.without_rare"] == 1
    assert metrics["t.macro_auc"] < metrics["t.macro_auc.without_rare"] == 1
    assert "t.accuracy.without_rare" not in class_metrics("t", probabilities[:80], codes[:80])


def test_parameter_metrics_are_in_the_parameters_units() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(20, 3, (2000, 1)).astype(np.float32)
    guess = truth + 0.5 + generator.normal(0, 0.2, truth.shape)
    answer = Answer(value={"": guess}, sigma={"": np.full_like(guess, 0.27)})
    scheme = HeadScheme("t", "s", "values", ("mag",))
    metrics = parameter_metrics(scheme, answer, {"value": truth}, {"value": truth}, {"mag": 2.0})
    assert metrics["t.mag.bias"] == pytest.approx(0.5, abs=0.02)
    assert metrics["t.mag.scatter"] == pytest.approx(0.2, abs=0.01)
    assert metrics["t.mag.rmse_of_mean"] == pytest.approx(3, abs=0.1)
    assert metrics["t.mag.coverage"] == pytest.approx(0.57, abs=0.05)
    assert metrics["t.mag.coverage.uncalibrated"] < metrics["t.mag.coverage"] < metrics["t.mag.coverage_95"]


def test_each_question_of_volunteers_is_calibrated_by_itself() -> None:
    generator = np.random.default_rng(0)
    wrong_by = {"bar": 0.02, "arms": 0.2}
    truth = {name: generator.uniform(0.3, 0.7, (500, 2)) for name in wrong_by}
    value = {name: truth[name] + generator.normal(0, error, (500, 2)) for name, error in wrong_by.items()}
    answer = Answer(value=value, sigma={name: np.full((500, 2), 0.1) for name in wrong_by})
    scheme = HeadScheme("t", "s", "votes", ("bar", "arms"), (("yes", "no"), ("two", "more")))
    scales = calibrate(scheme, answer, truth)["sigma_scale"]
    assert scales == {"bar": pytest.approx(0.2, rel=0.1), "arms": pytest.approx(2.0, rel=0.1)}
    metrics = vote_metrics(scheme, answer, truth, truth, scales)
    assert metrics["t.coverage"] == pytest.approx(0.683, abs=0.01)
    assert metrics["t.coverage_95"] == pytest.approx(0.95, abs=0.02)
    assert metrics["t.coverage.uncalibrated"] == pytest.approx((1 + 0.38) / 2, abs=0.03)
