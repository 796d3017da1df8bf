"""Memory and time of each training stage, from a few short steps on this machine."""

from __future__ import annotations

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

STEPS_TIMED = 3
SECONDS_TIMED = 10.0
"""Of a kind of step; one that takes longer is timed once."""

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
    """

    stamps: float
    seconds_per_stamp: float
    state_bytes: int
    batch_bytes: int
    on_gpu: bool = False

    @property
    def hours(self) -> float:
        """Of the whole training."""
        return self.stamps * self.seconds_per_stamp / 3600

    @property
    def memory_bytes(self) -> int:
        """Most memory of a step on the training device, beside the interpreter and the stamps that are read."""
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
    states = STATES + (settings.ema_decay > 0) + (getattr(settings, "processes", 1) > 1)
    return TrainingNeeds(
        stamps=stamps,
        seconds_per_stamp=sum(trial.part * seconds_per_stamp(trial, device) for trial in trials) / len(trials),
        state_bytes=states * weights,
        batch_bytes=max(batch_bytes(trial, device, trial.part * settings.batch_size) for trial in trials),
        on_gpu=device.type == "cuda",
    )


def seconds_per_stamp(trial: Trial, device: torch.device) -> float:
    """Of the fastest of a few steps, since other load comes and goes."""
    fastest = spent = 0.0
    for _ in range(STEPS_TIMED):
        started = time.perf_counter()
        _loss(trial, device, MORE).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
        fastest, spent = min(fastest or taken, taken), spent + taken
        if spent > SECONDS_TIMED:
            break
    return fastest / MORE


def batch_bytes(trial: Trial, device: torch.device, stamps: float) -> int:
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


def _loss(trial: Trial, device: torch.device, stamps: int) -> Tensor:
    batch: Mapping[str, Any] = pytree.tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, trial.batch(stamps)
    )
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=computes_in_bfloat16(device.type)):
        loss, _ = trial.objective.training_step_at(0, dict(batch), torch.Generator(device).manual_seed(0))
    return loss
