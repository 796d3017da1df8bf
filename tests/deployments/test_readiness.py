"""What `galaxy check` expects of a run: it grows with what is asked for, and is measured."""

from __future__ import annotations

from deployments.readiness import measure_training, stamps_trained
from infra.profile import PretrainSettings, load_profile


def test_more_objects_mean_more_pretraining_until_the_steps_run_out() -> None:
    profile = load_profile("laptop")
    small, large, larger = (stamps_trained(profile, objects) for objects in (100, 1_000_000, 2_000_000))
    assert small["pretrain"] == 0.7 * profile.pretrain.epochs * 100
    assert large["pretrain"] == larger["pretrain"] == profile.pretrain.max_steps * profile.pretrain.batch_size
    assert small["finetune"] == large["finetune"] == profile.finetune.steps * profile.finetune.batch_size


def test_finer_pixels_cost_more() -> None:
    binned = measure_training(PretrainSettings(crop=64, binning=2, batch_size=8), threads=1)
    whole = measure_training(PretrainSettings(crop=64, binning=1, batch_size=8), threads=1)
    assert 0 < binned < whole
