"""What `galaxy check` expects of a run: it grows with what is asked for, and is measured."""

from __future__ import annotations

import itertools
import time

import pytest

from deployments.readiness import measure_training, stamps_trained
from infra.profile import PretrainSettings, load_profile


def test_more_objects_mean_more_pretraining_until_the_steps_run_out() -> None:
    profile = load_profile("laptop")
    small, large, larger = (stamps_trained(profile, objects) for objects in (100, 1_000_000, 2_000_000))
    batch = profile.pretrain.batch_size
    assert 0 <= small["pretrain"] - 70 * profile.pretrain.epochs < batch, "the last step is a whole one"
    assert large["pretrain"] == larger["pretrain"] == profile.pretrain.max_steps * batch
    assert small["finetune"] < large["finetune"] == larger["finetune"]
    assert small["find-lenses"] == large["find-lenses"]


@pytest.mark.parametrize("preset", ["nano", "timm:test_resnet"])
def test_a_step_is_measured_and_shared_among_its_stamps(monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)  # a step seems to take one second
    settings = PretrainSettings(preset=preset, crop=64, binning=2, batch_size=8)
    assert measure_training(settings, threads=1) == 1 / 8
