"""Memory and time of each training stage, from a few short steps on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree

from galaxy_models.precision import computes_in_bfloat16
from galaxy_models.training import Objective
from infra.profile import Profile
from tasks.train.trial_steps import Trial, settings_of, trials_of

FEW, MORE = 2, 8
"""Stamps of the two steps whose difference is what a stamp costs."""

MOST_TIMED = 64
"""Stamps of a step that is timed: more would need memory that may not be there."""

STEPS_TIMED = 5
LEAST_TIMED = 2
SECONDS_TIMED = 10.0
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
        Of a training step on this machine.
    state_bytes
        Weights, gradients, moments and averages.
    batch_bytes
        What a batch leaves behind for the backward pass.
    on_gpu
        Whether all this was measured on a GPU, whose memory it then is.
    at_once
        Processes that compute at the same time: all, each on a GPU of its own, or as many as the cores are enough for.
    """

    stamps: float
    seconds_per_stamp: float
    state_bytes: int
    batch_bytes: int
    on_gpu: bool = False
    at_once: int = 1

    @property
    def hours(self) -> float:
        """Of the whole training."""
        return self.stamps * self.seconds_per_stamp / self.at_once / 3600

    @property
    def memory_bytes(self) -> int:
        """Most memory of a process's step on its device, beside the interpreter and the stamps that are read."""
        return self.state_bytes + round(WORKSPACE * self.batch_bytes)


def training_needs(stage: str, profile: Profile, stamps: float, stamp_size: int) -> TrainingNeeds:
    """Measure a few small steps of a stage's real networks, and scale them to the profile's batches and length.

    Parameters
    ----------
    stamps
        Stamps that the training goes through.
    stamp_size
        Side of the survey's stamps, pixels.
    """
    torch.set_num_threads(profile.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = settings_of(stage, profile)
    trials = trials_of(stage, profile, stamp_size)
    for trial in trials:
        trial.objective.to(device)
    weights = sum(parameter.nbytes for parameter in trials[0].objective.parameters())
    processes = processes_of(stage, profile)
    states = STATES + (settings.ema_decay > 0)
    cores = os.cpu_count() or 1
    batches = [round(trial.part * settings.batch_size) for trial in trials]
    seconds = [
        trial.part * seconds_per_stamp(trial, device, batch) for trial, batch in zip(trials, batches, strict=True)
    ]
    return TrainingNeeds(
        stamps=stamps,
        seconds_per_stamp=sum(seconds) / len(seconds),
        state_bytes=states * weights,
        batch_bytes=max(batch_bytes(trial, device, batch) for trial, batch in zip(trials, batches, strict=True)),
        on_gpu=device.type == "cuda",
        at_once=processes if device.type == "cuda" else max(1, min(processes, cores // profile.threads)),
    )


def processes_of(stage: str, profile: Profile) -> int:
    """How many processes train a stage."""
    return profile.pretrain.processes if stage == "pretrain" else 1


def seconds_per_stamp(trial: Trial, device: torch.device, stamps: int) -> float:
    """Of the fastest of a few steps, since other load comes and goes; of `stamps` stamps, if that is quick enough."""
    first = _seconds(trial, device, MORE)  # also warms up
    quick = first * stamps / MORE < SECONDS_TIMED / LEAST_TIMED
    size = max(MORE, min(stamps, MOST_TIMED)) if quick else MORE
    fastest, spent = float("inf"), 0.0
    for timed in range(1, STEPS_TIMED + 1):
        taken = _seconds(trial, device, size)
        fastest, spent = min(fastest, taken), spent + taken
        if timed >= LEAST_TIMED and spent > SECONDS_TIMED:
            break
    return fastest / size


def batch_bytes(trial: Trial, device: torch.device, stamps: int) -> int:
    """What a batch of so many stamps leaves for the backward pass: the line through two small batches."""
    few, more = (kept_for_backward(trial.objective, partial(_loss, trial, device, count)) for count in (FEW, MORE))
    per_stamp = (more - few) / (MORE - FEW)
    return round(few + per_stamp * (stamps - FEW))


def kept_for_backward(objective: Objective, loss: Callable[[], Tensor]) -> int:
    """Bytes of all tensors that the graph of a loss holds, each storage once, without the parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in objective.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss()
    return sum(kept.values())


def _seconds(trial: Trial, device: torch.device, stamps: int) -> float:
    started = time.perf_counter()
    _loss(trial, device, stamps).backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _loss(trial: Trial, device: torch.device, stamps: int) -> Tensor:
    batch: Mapping[str, Any] = pytree.tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, trial.batch(stamps)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bfloat16(device.type)):
        loss, _ = trial.objective.training_step_at(0, dict(batch), torch.Generator(device).manual_seed(0))
    return loss
