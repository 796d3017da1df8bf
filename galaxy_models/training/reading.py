"""Numbers on their way from the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Reading:
    """Numbers of a batch, read when they are there.

    To ask a GPU for a number is to wait until it has done all that was asked before, and then it has nothing to do
    until the next thing is. What is copied in the background can be read a step later without any wait.

    Parameters
    ----------
    values
        Numbers, and tensors of one number.
    """

    def __init__(self, values: Mapping[str, Tensor | float]) -> None:
        self._values: dict[str, float] = dict.fromkeys(values, 0.0)  # their order
        there = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.is_cuda}
        self._values.update({name: float(value) for name, value in values.items() if name not in there})
        self._names = tuple(there)
        self._copied: torch.cuda.Event | None = None
        if there:
            numbers = torch.stack([value.detach().float().reshape(()) for value in there.values()])
            self._numbers = torch.empty(len(there), pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def at_once(self) -> bool:
        """Whether nothing has to be waited for."""
        return self._copied is None

    def read(self) -> dict[str, float]:
        """The numbers, once they have arrived."""
        if self._copied is not None:
            self._copied.synchronize()
            self._values.update(zip(self._names, self._numbers.tolist(), strict=True))
        return self._values
