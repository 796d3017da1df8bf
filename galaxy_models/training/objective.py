"""What is trained: the side of the loop that each model writes for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..compilation import worth_compiling

Batch = dict[str, Any]


class Objective(nn.Module):
    """What is trained: networks as submodules, and a loss.

    Only `training_step_at` must be written. A step may depend on nothing but the step number,
    the batches, the generator, the parameters and `extra_state`; then a resumed run equals an
    undisturbed one.

    Attributes
    ----------
    every_parameter_learns
        Whether every batch gives every parameter a gradient. Where not, several processes have to find out each time
        which got one.
    """

    every_parameter_learns = True

    def training_step_at(
        self, step: int, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss of one batch, and metrics to record: numbers, or better tensors of one, which a GPU need not wait for.

        Parameters
        ----------
        step
            0 for the first; all batches of a step have its number.
        batch
            From `batches_from`; tensors lie on the training device.
        generator
            On the training device, seeded by the run's seed and the batch's number; the source of every random number.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each `{"module": Module, "learning_rate_scale": float}`; no module twice.

        By default one group of everything, at the full rate. Parameters that ask for no gradient are left out.
        """
        return [{"module": self, "learning_rate_scale": 1.0}]

    def compiled_parts(self) -> list[nn.Module]:
        """Submodules that are worth compiling: called as modules, with few shapes; see `worth_compiling`."""
        return worth_compiling(self)

    def extra_state(self) -> dict[str, Any]:
        """Plain values and tensors beyond the parameters and buffers that a checkpoint must keep."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` gave."""

    def on_step_end(self, step: int) -> Mapping[str, float] | None:
        """Called after the optimiser's step; may evaluate, and return metrics to record.

        The weights are then those that the run would end with: the moving average, where there is one.
        """
        return None
