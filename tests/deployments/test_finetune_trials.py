"""The trials of fine-tuning are the steps that a real one takes: every task, as large, and as often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from deployments import training_needs
from deployments.training_needs import StepCost, kept_for_backward, step_cost
from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import architecture, build_lvm
from galaxy_models.precision import computes_in_bfloat16
from galaxy_models.predictor import save_model
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings, PretrainSettings, Profile
from tasks.train import finetune as stage
from tasks.train import finetune_network
from tasks.train.finetune_objective import MultiTaskObjective
from tasks.train.trial_steps import Trial, trials_of
from tests.doubles.labelled_ellipses import SIDE, context_of, prepared_of, survey_of

CPU = torch.device("cpu")
TASKS = ("classification", "parameters", "restoration", "reconstruction")
BATCH = 16


class SeenError(Exception):
    """All tasks have been seen."""


class Written(TorchDispatchMode):
    """Counts the bytes of what every operation gives: how much work there is, whatever else the machine does."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes += sum(leaf.nbytes for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        return result


@pytest.fixture
def real_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Bytes that a step of each task keeps for the backward pass and writes, in a real fine-tuning of fluxes."""
    seen: dict[str, tuple[int, int]] = {}
    step_at = MultiTaskObjective.training_step_at

    def counted(
        self: MultiTaskObjective, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        with kept_for_backward(self) as kept, Written() as written:
            result = step_at(self, step, batch, generator)
        seen[batch["task"]] = kept(), written.bytes
        if set(seen) == set(TASKS):
            raise SeenError
        return result

    lvm, inputs = build_lvm("nano"), InputSpec(("g", "r", "z"), SIDE, 32, 1, (0.2, 0.3), True)
    save_model(tmp_path / "lvm", ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(lvm)}, inputs), lvm)
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: prepared_of("nanomaggy", 120))
    monkeypatch.setattr(MultiTaskObjective, "training_step_at", counted)
    with pytest.raises(SeenError):
        stage.finetune(context_of(tmp_path / "run", tmp_path / "lvm", "nanomaggy", batch_size=BATCH, shares="equal"))
    monkeypatch.undo()
    return seen


def profile_of(**settings: Any) -> Profile:
    return Profile(
        name="tiny",
        threads=1,
        pretrain=PretrainSettings(preset="nano", crop=32, binning=1),
        finetune=FinetuneSettings(batch_size=BATCH, **settings),
    )


def test_each_task_of_a_fine_tuning_of_fluxes_costs_what_its_trial_says(real_steps: dict[str, tuple[int, int]]) -> None:
    for trial in trials_of("finetune", profile_of(), survey_of("nanomaggy")):
        stamps = round(trial.part * BATCH)
        kept, written = real_steps.pop(trial.name)
        # the trial has one table of five classes, the toy survey one of two and a question
        assert step_cost(trial, CPU, stamps).batch_bytes == pytest.approx(kept, rel=0.05)
        batch, autocast = trial.batch(stamps), torch.autocast("cpu", enabled=computes_in_bfloat16("cpu"))
        with autocast, kept_for_backward(trial.objective), Written() as tried:
            trial.objective.training_step_at(0, batch, torch.Generator().manual_seed(0))
        assert tried.bytes == pytest.approx(written, rel=0.05)
    assert not real_steps, "every task was tried"


def test_a_survey_without_parameters_has_no_trial_of_them() -> None:
    labels = [label for label in survey_of("rgb").model_dump()["labels"] if label["kind"] != "values"]
    trials = trials_of("finetune", profile_of(), survey_of("rgb", labels=labels))
    assert [(trial.name, trial.share) for trial in trials] == [(t, 1 / 3) for t in TASKS if t != "parameters"]


@pytest.mark.parametrize(("kind", "task"), [("votes", "classification"), ("values", "parameters")])
def test_a_survey_of_one_kind_of_label_has_trials_of_that_alone(kind: str, task: str) -> None:
    survey = survey_of("rgb")
    survey = survey.model_copy(update={"labels": [label for label in survey.labels if label.kind == kind]})
    names = [trial.name for trial in trials_of("finetune", Profile(name="tiny"), survey)]
    assert names == [task, "restoration", "reconstruction"]


def test_fixed_shares_are_the_profiles_and_must_be_of_the_surveys_tasks() -> None:
    shares = dict(zip(TASKS, (4, 3, 2, 1), strict=True))
    trials = trials_of("finetune", profile_of(shares="fixed", fixed_shares=shares), survey_of("rgb"))
    assert {trial.name: trial.share for trial in trials} == {task: share / 10 for task, share in shares.items()}
    del shares["parameters"]
    with pytest.raises(GalaxyError, match=r"\[finetune\].*toy.*parameters"):
        trials_of("finetune", profile_of(shares="fixed", fixed_shares=shares), survey_of("rgb"))


def test_time_is_that_of_all_tasks_by_their_shares_and_of_the_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = dict(zip(TASKS, (1.0, 2.0, 12.0, 4.0), strict=True))

    def told(trial: Trial, device: torch.device, stamps: int) -> StepCost:
        return StepCost(seconds[trial.name], seconds_per_look=1.0, batch_bytes=1)

    monkeypatch.setattr(training_needs, "step_cost", told)
    profile = profile_of(evaluate_steps=10, validation_stamps=8)
    needs = training_needs.training_needs("finetune", profile, 1000, survey_of("nanomaggy"))
    learning = (1 + 2 + 12 / 2 + 4 / 2) / 4  # of images, a step has half as many stamps
    looking = 4 * 8 / (10 * BATCH)  # classes and votes are of one source, parameters of another, and images twice
    closing = 4 * 8 * len(profile.finetune.weight_mix)  # each of the weights that one is kept of is validated
    assert needs.seconds_per_stamp == pytest.approx(learning)
    assert needs.validation_seconds_per_stamp == pytest.approx(looking)
    assert needs.hours == pytest.approx((1000 * (learning + looking) + closing) / 3600)
    assert needs.step_seconds == {"classification": 16, "parameters": 32, "restoration": 96, "reconstruction": 32}


def test_where_the_last_weights_are_kept_nothing_is_validated_at_the_end() -> None:
    for trial in trials_of("finetune", profile_of(weight_mix=[1]), survey_of("rgb")):
        assert trial.looks > 0 and trial.closing_looks == 0
