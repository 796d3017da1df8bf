"""The processes that train together: which one this is, and what they tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """One of `count` processes, on `nodes` machines, that share the batches of each step.

    Batch b of the run belongs to process b modulo `count`. So the batches, and the random numbers of each, are the same
    for any number of processes.
    """

    rank: int = 0
    count: int = 1
    nodes: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes the checkpoints and tells the progress."""
        return self.rank == 0

    @property
    def here(self) -> int:
        """Processes on this machine."""
        return self.count // self.nodes

    def gathered(self, value: Value) -> list[Value]:
        """The value of each process, by rank; all must call it."""
        if self.count == 1:
            return [value]
        values: list[Value | None] = [None] * self.count
        distributed.all_gather_object(values, value)
        return [each for each in values if each is not None]

    def agree(self, asked: bool, device: torch.device) -> bool:
        """Whether any process asks; all must call it, and all get the same answer."""
        if self.count == 1:
            return asked
        answer = torch.tensor(int(asked), device=device)
        distributed.all_reduce(answer, op=distributed.ReduceOp.MAX)
        return bool(answer)


def this_process() -> Processes:
    """As torchrun started it; the only one if torchrun did not."""
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        return Processes()
    count = int(os.environ["WORLD_SIZE"])
    return Processes(int(os.environ["RANK"]), count, count // int(os.environ["LOCAL_WORLD_SIZE"]))
