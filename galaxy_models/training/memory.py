"""What to do when the device's memory ends: find the largest batch that fits, by trying."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .objective import Batch, Objective
from .optimiser import make_optimiser
from .plan import Plan


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; that of a CPU has no type of its own."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def stamps_of(batch: Batch) -> int:
    """Stamps in a batch: the length of its first tensor."""
    return next((len(leaf) for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 0)


def largest_fitting(
    objective: Objective, batch: Batch, plan: Plan, device: torch.device, *, bf16: bool, processes: int = 1
) -> int | None:
    """The largest part of a batch, halved until it fits, that a whole step can be made of; None if none can.

    A part divides the batch, so that a step of more, smaller batches keeps the stamps of a step. The step is an honest
    one: forward, backward, the optimiser with its moments, and the copies of the gradients that several processes
    have; only its learning rate is zero, so that no weight moves.
    """
    objective.to(device)
    size = stamps_of(batch)
    for part in _parts(size):
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if _fits(objective, _first(batch, size, part), plan, device, bf16=bf16, processes=processes):
            return part
    return None


def advice(size: int, fitting: int | None, accumulate: int) -> str:
    """What to set, in the words of a profile."""
    if fitting is None:
        return "not even the smallest part of it fits; take a smaller preset, a smaller `crop` or a larger `binning`"
    return (
        f"{fitting} fit, as a trial just now showed: set `batch_size = {fitting}` and "
        f"`accumulate = {accumulate * size // fitting}`, which keeps the stamps of a step"
    )


def _parts(size: int) -> Iterator[int]:
    """Divisors of `size`, each at most half of the one before; two is the least, since contrasts need a pair."""
    largest = size // 2
    for part in range(size // 2, 1, -1):
        if part <= largest and size % part == 0:
            yield part
            largest = part // 2


def _first(batch: Batch, size: int, part: int) -> Batch:
    def cut(leaf: Any) -> Any:
        return leaf[:part] if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == size else leaf

    cut_batch: Batch = pytree.tree_map(cut, batch)
    return cut_batch


def _fits(objective: Objective, batch: Batch, plan: Plan, device: torch.device, *, bf16: bool, processes: int) -> bool:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    try:
        batch = pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, batch)
        copies = [torch.empty_like(parameter) for parameter in trained] if processes > 1 else []
        optimiser = make_optimiser(objective, plan)
        for group in optimiser.param_groups:
            group["lr"] = 0.0
        generator = torch.Generator(device).manual_seed(plan.seed)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, _ = objective.training_step_at(0, batch, generator)
        loss.backward()
        optimiser.step()
        del copies
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        for parameter in trained:
            parameter.grad = None
    return True
