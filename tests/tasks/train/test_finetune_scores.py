"""Figures of merit of fine-tuning."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.multitask import HeadScheme
from tasks.train.finetune_scores import Answer, class_metrics, parameter_metrics


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
