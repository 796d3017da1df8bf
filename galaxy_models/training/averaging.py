"""An exponential moving average of the weights, which is steadier than the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def decay_after(updates: int, decay: float) -> float:
    """Decay of the next update: (1 + n) / (10 + n) until it reaches `decay`, so that early weights are soon forgotten.

    The rule of TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(decay, (1 + updates) / (10 + updates))


class WeightAverage:
    """The moving average of some parameters, on their device. Lightning's own would copy the whole objective.

    Parameters
    ----------
    parameters
        Those that are trained. Buffers are not averaged.
    decay
        Share of the old average that an update keeps, once it has warmed up; see `decay_after`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._current = nn.ParameterList(parameters)

        def average(averages: Tensors, currents: Tensors, updates: Tensor | int) -> None:
            get_ema_multi_avg_fn(decay_after(int(updates), decay))(averages, currents, updates)

        self._model = AveragedModel(self._current, multi_avg_fn=average).requires_grad_(False)

    def update(self) -> None:
        """Take in the parameters as they are; the first time they are the average."""
        self._model.update_parameters(self._current)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters are the average for as long as the context lasts; nothing is copied."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def settle(self) -> None:
        """Make the parameters the average, for good."""
        with torch.no_grad():
            for current, average in self._pairs():
                current.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        """Tensors for a checkpoint."""
        return self._model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._model.load_state_dict(state)

    def _swap(self) -> None:
        for current, average in self._pairs():
            current.data, average.data = average.data, current.data

    def _pairs(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        return zip(self._current, self._model.parameters(), strict=True)
