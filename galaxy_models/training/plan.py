"""The numbers of one training."""

from __future__ import annotations

from dataclasses import dataclass

OLDER_RUNS = {"accumulate": 1, "ema_decay": 0.0}
"""What checkpoints were trained with that do not say: they are older than these numbers."""


@dataclass(frozen=True)
class Plan:
    """The arguments of `fit` that are numbers; see there."""

    steps: int
    checkpoint_steps: int
    learning_rate: float
    weight_decay: float
    warmup: int
    seed: int
    record_steps: int = 10
    accumulate: int = 1
    ema_decay: float = 0.0

    def identity(self) -> dict[str, float]:
        """What a checkpoint's run must have in common with ours to be carried on."""
        names = ("steps", "learning_rate", "weight_decay", "warmup", "seed", *OLDER_RUNS)
        return {name: getattr(self, name) for name in names}
