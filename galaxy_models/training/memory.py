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

LEAST = 2
"""Batch size that a profile can go down to: contrasts need a pair."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; that of a CPU has no type of its own."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def stamps_of(batch: Batch) -> int:
    """Stamps in a batch: the length of its first tensor."""
    return next((len(leaf) for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), 0)


def largest_fitting(
    objective: Objective,
    batch: Batch,
    batch_size: int,
    plan: Plan,
    device: torch.device,
    *,
    bf16: bool,
    processes: int = 1,
) -> int | None:
    """The largest batch size, halved until it fits, that a whole step can be made with; None if none can.

    The step is an honest one: forward, backward, the optimiser with its moments, and the copies of the gradients that
    several processes have; only its learning rate is zero, so that no weight moves.

    Parameters
    ----------
    batch
        The one that did not fit.
    batch_size
        What it was drawn for. It may have fewer stamps, then those that are tried have as much fewer.
    """
    objective.to(device)
    size = stamps_of(batch)
    for smaller in _smaller(batch_size):
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        part = _first(batch, size, part_of(size, smaller, batch_size))
        if _fits(objective, part, plan, device, bf16=bf16, processes=processes):
            return smaller
    return None


def advice(size: int, batch_size: int, fitting: int | None, accumulate: int) -> str:
    """What to set, in the words of a profile.

    Parameters
    ----------
    size
        Stamps of the batch that did not fit.
    batch_size, accumulate
        What the profile has.
    fitting
        The batch size that fits.
    """
    if fitting is None:
        tried = f"not even `batch_size = {LEAST}` fits" if batch_size > LEAST else "`batch_size` can be no smaller"
        return f"{tried}; take a smaller preset, a smaller `crop` or a larger `binning`"
    batches = accumulate * round(batch_size / fitting)
    before, after = batch_size * accumulate, fitting * batches
    kept = "which keeps the stamps of a step" if after == before else f"a step then has {after} stamps, not {before}"
    return (
        f"{part_of(size, fitting, batch_size)} fit, as a trial just now showed: set `batch_size = {fitting}` and "
        f"`accumulate = {batches}`, {kept}"
    )


def part_of(size: int, smaller: int, batch_size: int) -> int:
    """Stamps that a batch of `size` would have, were it drawn for a smaller batch size."""
    return -(-size * smaller // batch_size)


def _smaller(batch_size: int) -> Iterator[int]:
    """Batch sizes to try, each at most half of the one before, down to `LEAST`.

    Divisors where there are any near, so that a step of more, smaller batches keeps its stamps.
    """
    tried = batch_size
    while tried > LEAST:
        half = max(LEAST, tried // 2)
        tried = next((part for part in range(half, half // 2, -1) if batch_size % part == 0), half)
        yield tried


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
