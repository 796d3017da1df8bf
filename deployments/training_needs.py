"""Memory and time of each training stage, from a few short steps on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree

from galaxy_models.precision import computes_in_bfloat16
from galaxy_models.training import Objective
from infra.profile import Profile, SharedSettings
from tasks.ingest.survey import SurveyDefinition
from tasks.train.trial_steps import Trial, settings_of, trials_of

FEW, SOME, MORE = 2, 4, 8
"""Stamps of the two first steps, whose difference is what a stamp keeps: few, and some or more."""

SLOW = 2.0
"""Seconds of a step of few stamps from which on a second one has to tell all: large networks would take minutes."""

MOST_TIMED = 64
"""Stamps of a step that is timed: more would need memory that may not be there."""

QUICK = 5.0
"""Seconds of a step of the profile's batch up to which it is timed itself, and not a smaller one."""

STEPS_TIMED, SECONDS_TIMED = 5, 10.0
"""Of a kind of step; where steps are slow, fewer are timed."""

STATES = 4
"""Weights, gradients and AdamW's two moments."""

WORKSPACE = 1.65
"""Memory of a step in units of what its forward pass keeps: the backward pass has temporaries of its own, and malloc
does not give all back. Measured on a CPU, 1.6 to 1.8 for the four stages; CUDA's allocator may need less."""


@dataclass(frozen=True)
class TrainingNeeds:
    """What a training stage needs.

    Attributes
    ----------
    stamps
        Stamps that it goes through.
    seconds_per_stamp
        Of learning on this machine.
    validation_seconds_per_stamp
        Of the validations on the way, for each stamp that is learnt from.
    state_bytes
        Weights, gradients, moments and averages.
    batch_bytes
        What a batch leaves behind for the backward pass.
    on_gpu
        Whether all this was measured on a GPU, whose memory it then is.
    step_seconds
        Of a step of the profile's batch, by task, where a stage has several.
    at_once
        Processes that learn at the same time: all, each on a GPU of its own, or as many as the cores are enough for.
        One of them validates, and the others wait. Where those of a step learn different tasks, it takes as long as the
        slowest, which is not counted.
    closing_seconds
        Of the validations when all steps are done.
    """

    stamps: float
    seconds_per_stamp: float
    state_bytes: int
    batch_bytes: int
    validation_seconds_per_stamp: float = 0.0
    on_gpu: bool = False
    at_once: int = 1
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    closing_seconds: float = 0.0

    @property
    def hours(self) -> float:
        """Of the whole training."""
        seconds_per_stamp = self.seconds_per_stamp / self.at_once + self.validation_seconds_per_stamp
        return (self.stamps * seconds_per_stamp + self.closing_seconds) / 3600

    @property
    def memory_bytes(self) -> int:
        """Most memory of a process's step on its device, beside the interpreter and the stamps that are read."""
        return self.state_bytes + round(WORKSPACE * self.batch_bytes)


def training_needs(stage: str, profile: Profile, stamps: float, survey: SurveyDefinition) -> TrainingNeeds:
    """Measure a few small steps of a stage's real networks, and scale them to the profile's batches and length.

    Malloc keeps much of what the steps took, so that `galaxy check` calls this through `in_own_process`.

    Parameters
    ----------
    stamps
        Stamps that the training goes through.

    Raises
    ------
    GalaxyError
        If profile and survey do not fit each other, see `trials_of`.
    """
    torch.set_num_threads(profile.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = settings_of(stage, profile)
    trials = trials_of(stage, profile, survey)
    for trial in trials:
        trial.objective.to(device)
    weights = sum(parameter.nbytes for parameter in trials[0].objective.parameters())
    processes = processes_of(stage, profile)
    states = STATES + (settings.ema_decay > 0)
    cores = os.cpu_count() or 1
    costs = [(trial, step_cost(trial, device, round(trial.part * settings.batch_size))) for trial in trials]
    return TrainingNeeds(
        stamps=stamps,
        seconds_per_stamp=sum(trial.share * trial.part * cost.seconds_per_stamp for trial, cost in costs),
        validation_seconds_per_stamp=sum(trial.looks * cost.seconds_per_look for trial, cost in costs),
        state_bytes=states * weights,
        batch_bytes=max(cost.batch_bytes for _, cost in costs),
        on_gpu=device.type == "cuda",
        at_once=processes if device.type == "cuda" else max(1, min(processes, cores // profile.threads)),
        step_seconds={
            trial.name: trial.part * settings.batch_size * cost.seconds_per_stamp for trial, cost in costs if trial.name
        },
        closing_seconds=sum(trial.closing_looks * cost.seconds_per_look for trial, cost in costs),
    )


def processes_of(stage: str, profile: Profile) -> int:
    """How many processes train a stage."""
    settings = settings_of(stage, profile)
    return settings.processes if isinstance(settings, SharedSettings) else 1


@dataclass(frozen=True)
class StepCost:
    """What one kind of step costs.

    Attributes
    ----------
    seconds_per_stamp, seconds_per_look
        Of learning, and of a validation, which only looks; 0 where a stage has none.
    batch_bytes
        What a batch leaves behind for the backward pass.
    """

    seconds_per_stamp: float
    seconds_per_look: float
    batch_bytes: int


def step_cost(trial: Trial, device: torch.device, stamps: int) -> StepCost:
    """Of batches of so many stamps: memory by the line through two small ones, time by the fastest of a few steps.

    Other load comes and goes, hence the fastest. Of a large network the two small steps have to tell all.
    """
    few, slow = _kept_and_seconds(trial, device, FEW)  # which also warms up
    count = SOME if slow > SLOW else MORE
    more, seconds = _kept_and_seconds(trial, device, count)
    quick = seconds * stamps / count < QUICK
    size, times, spent = count, [seconds], slow + seconds
    if quick and stamps > count:
        size, times = min(stamps, MOST_TIMED), []
    while not times or (len(times) < STEPS_TIMED and spent < SECONDS_TIMED):
        times.append(_seconds(trial, device, size))
        spent += times[-1]
    return StepCost(
        seconds_per_stamp=min(times) / size,
        seconds_per_look=_seconds_of_a_look(trial, device, size) / size if trial.looks else 0.0,
        batch_bytes=round(few + (more - few) / (count - FEW) * (stamps - FEW)),
    )


@contextmanager
def kept_for_backward(objective: Objective) -> Iterator[Callable[[], int]]:
    """Counts the bytes of all tensors that graphs made within hold, each storage once, without the parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in objective.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        yield lambda: sum(kept.values())


def _kept_and_seconds(trial: Trial, device: torch.device, stamps: int) -> tuple[int, float]:
    with _clock(device) as seconds:
        with kept_for_backward(trial.objective) as kept:
            loss = _loss(trial, device, stamps)
        loss.backward()
    return kept(), seconds()


def _seconds(trial: Trial, device: torch.device, stamps: int) -> float:
    with _clock(device) as seconds:
        _loss(trial, device, stamps).backward()
    return seconds()


def _seconds_of_a_look(trial: Trial, device: torch.device, stamps: int) -> float:
    with _clock(device) as seconds, torch.no_grad():
        _loss(trial, device, stamps)
    return seconds()


@contextmanager
def _clock(device: torch.device) -> Iterator[Callable[[], float]]:
    """Tells afterwards how long what was within took, to the end of what it started on a GPU."""
    times = [time.perf_counter()]
    yield lambda: times[1] - times[0]
    if device.type == "cuda":
        torch.cuda.synchronize()
    times.append(time.perf_counter())


def _loss(trial: Trial, device: torch.device, stamps: int) -> Tensor:
    batch: Mapping[str, Any] = pytree.tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, trial.batch(stamps)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bfloat16(device.type)):
        loss, _ = trial.objective.training_step_at(0, dict(batch), torch.Generator(device).manual_seed(0))
    return loss
