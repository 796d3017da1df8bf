"""How much of the training each task gets: the task that does worst gets most, and none starves.

The observed practice (Fu et al. 2024) is that the share of each task changes as training goes, and that tasks
with lower metrics get more; its formula is not published, so the one here is our own.

What was tried beside it, in a simulation whose learning curves rise to limits as those of real trainings did, with a
validation's noise: lowering a task's reference to what its recent progress lets hope for. It spares the steps of a task
that is at its limit, but also those of a slow one that is worst, which it served hardly better than equal shares do. An
exponent above 1 helps the worst task of a short training at the cost of the mean. Neither is the default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

SMALLEST_DEFICIT = 1e-3
"""A task that has reached its reference still counts this much, so that shares stay defined."""

KINDS = ("adaptive", "equal", "fixed")


class TaskShares:
    """Shares of several tasks, equal or fixed or following the tasks' validation scores.

    With m_k the score of task k, m*_k its reference, d_k = max(0.001, m*_k - m_k) its deficit, K tasks, floor f
    and exponent gamma, the wanted share is (1 - f) d_k^gamma / sum_j d_j^gamma + f / K. Shares move towards it
    as an exponential moving average, so that one noisy validation changes little.

    Parameters
    ----------
    tasks
        Names, in an order that does not change.
    kind
        `adaptive`, `equal` or `fixed`.
    fixed
        Share of each task for `fixed`; they are normalised to sum to one.
    references
        Score at which a task needs nothing more; 1 where it is not given.
    floor
        Part of the training that is always shared equally, in 0..1.
    smoothing
        Weight of the old shares in the moving average, in 0..1.
    exponent
        Above 1 the weakest task gets more than in proportion.

    Raises
    ------
    ValueError
        If a number is out of range, or `fixed` names other tasks than there are.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        kind: str = "adaptive",
        *,
        fixed: Mapping[str, float] | None = None,
        references: Mapping[str, float] | None = None,
        floor: float = 0.2,
        smoothing: float = 0.5,
        exponent: float = 1.0,
    ) -> None:
        if not tasks or len(set(tasks)) != len(tasks):
            raise ValueError(f"tasks must be there and differ, not {list(tasks)}")
        if kind not in KINDS:
            raise ValueError(f"shares are one of {KINDS}, not {kind!r}")
        if not 0 < floor <= 1 or not 0 <= smoothing < 1 or exponent <= 0:
            raise ValueError(
                f"floor {floor} (0..1], smoothing {smoothing} [0..1) or exponent {exponent} (>0) out of range"
            )
        self.tasks = tuple(tasks)
        self.kind = kind
        self.references = {task: float((references or {}).get(task, 1.0)) for task in self.tasks}
        self.floor = floor
        self.smoothing = smoothing
        self.exponent = exponent
        self.shares = {task: 1 / len(self.tasks) for task in self.tasks}
        if kind == "fixed":
            self.shares = _normalised(self.tasks, fixed or {})

    def deficits(self, scores: Mapping[str, float]) -> dict[str, float]:
        """How far each task is below its reference, at least 0.001; a task without a score counts as at 0."""
        found = {task: float(scores.get(task, 0.0)) for task in self.tasks}
        return {
            task: max(SMALLEST_DEFICIT, self.references[task] - (score if math.isfinite(score) else 0.0))
            for task, score in found.items()
        }

    def update(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Take validation scores (higher is better; a task without one counts as at 0) and return the new shares."""
        if self.kind != "adaptive":
            return dict(self.shares)
        weights = {task: deficit**self.exponent for task, deficit in self.deficits(scores).items()}
        total = sum(weights.values())
        for task in self.tasks:
            wanted = (1 - self.floor) * weights[task] / total + self.floor / len(self.tasks)
            self.shares[task] = self.smoothing * self.shares[task] + (1 - self.smoothing) * wanted
        return dict(self.shares)

    def draw(self, generator: torch.Generator) -> str:
        """One task, by the shares."""
        point = float(torch.rand((), generator=generator))
        for task in self.tasks:
            point -= self.shares[task]
            if point < 0:
                return task
        return self.tasks[-1]

    def state(self) -> dict[str, Any]:
        """Plain values that `restore` takes back, for a checkpoint."""
        return {"tasks": list(self.tasks), "shares": dict(self.shares)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`; raises ValueError if it is of other tasks."""
        if tuple(state["tasks"]) != self.tasks:
            raise ValueError(f"the state is of tasks {state['tasks']}, not {list(self.tasks)}")
        self.shares = {task: float(state["shares"][task]) for task in self.tasks}


def _normalised(tasks: Sequence[str], fixed: Mapping[str, float]) -> dict[str, float]:
    if set(fixed) != set(tasks) or any(share < 0 for share in fixed.values()) or sum(fixed.values()) <= 0:
        raise ValueError(f"fixed shares must name each of {list(tasks)} with a number >= 0, not {dict(fixed)}")
    total = sum(fixed.values())
    return {task: fixed[task] / total for task in tasks}
