"""Which task, which stamps and which labels a batch of multi-task fine-tuning gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.votes import reach
from tasks.train.label_tables import LabelledStamps
from tasks.train.working_copy import WorkingCopy

IMAGE_TASKS = ("restoration", "reconstruction")


@dataclass(frozen=True)
class LabelGroup:
    """All tables of one task and one source, over the stamps that have a label in any of them.

    Attributes
    ----------
    rows
        (n,) catalogue rows of train stamps, rising.
    chances
        (n,) chance of each row to be drawn, of sum one; rare classes come more often.
    targets
        Table to target name to (n, ...) tensor; -1 or NaN where the row has no label in the table.
    """

    task: str
    source: str
    rows: NDArray[np.int64]
    chances: NDArray[np.float64]
    targets: dict[str, dict[str, Tensor]]

    @property
    def name(self) -> str:
        """Task and source."""
        return f"{self.task}/{self.source}"


def label_groups(tables: Sequence[LabelledStamps], supposed_votes: float, balance: float) -> list[LabelGroup]:
    """One group for each task and source, in the order of the tables.

    Parameters
    ----------
    supposed_votes
        Volunteers that a fraction stands for whose number is not told; fewer where only a part of them came to the
        question.
    balance
        0 draws classes as they are, 1 draws all classes equally often.
    """
    keys = list(dict.fromkeys((table.task, table.scheme.source) for table in tables))
    groups = []
    for task, source in keys:
        members = [table for table in tables if (table.task, table.scheme.source) == (task, source)]
        rows = np.unique(np.concatenate([table.rows[table.positions("train")] for table in members]))
        weights = np.ones(len(rows))
        targets = {}
        for table in members:
            train = table.positions("train")
            places = np.searchsorted(rows, table.rows[train])
            spread = {name: _spread(values[train], places, len(rows)) for name, values in table.targets.items()}
            if table.scheme.kind == "classes":
                weights *= _class_weights(spread["code"].numpy(), len(table.scheme.names), balance)
            if table.scheme.kind == "votes":
                spread |= _votes(table, spread, supposed_votes)
            targets[table.scheme.table] = spread
        groups.append(LabelGroup(task, source, rows, weights / weights.sum(), targets))
    return groups


@dataclass(frozen=True)
class Turn:
    """What a batch learns: a task, and whose labels of it; images are learnt without any."""

    task: str
    group: LabelGroup | None


class BatchDrawer:
    """Draws the batch of a turn; a pure function of the seed, the batch's number and the turn.

    Attributes
    ----------
    turns
        How many turns each label group has had: plain values, kept in the checkpoint.
    """

    def __init__(
        self, groups: Sequence[LabelGroup], image_rows: NDArray[np.int64], copy: WorkingCopy, batch_size: int, seed: int
    ) -> None:
        self.groups = tuple(groups)
        self.image_rows = image_rows
        self.copy = copy
        self.batch_size = batch_size
        self.seed = seed
        self.turns = {group.name: 0 for group in self.groups}

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that there is something to learn for."""
        return (*dict.fromkeys(group.task for group in self.groups), *IMAGE_TASKS)

    def turn(self, task: str) -> Turn:
        """Whose turn it is, and it is counted: sources of a labelled task take theirs one after the other."""
        return Turn(task, None if task in IMAGE_TASKS else self._next(task))

    def draw(self, number: int, turn: Turn) -> dict[str, Any]:
        """`task`, `images` (B, C, H, W) raw, `rows` (B,), and for a labelled task `source` and `targets` by table."""
        generator, task, group = np.random.default_rng([self.seed, number]), turn.task, turn.group
        if group is None:
            rows = generator.choice(self.image_rows, -(-self.batch_size // 2))  # the decoder costs as much again
            return {"task": task, "images": self.copy.read(rows), "rows": torch.from_numpy(rows)}
        places = generator.choice(len(group.rows), self.batch_size, p=group.chances)
        rows = group.rows[places]
        index = torch.from_numpy(places)
        targets = {
            table: {name: values[index] for name, values in named.items()} for table, named in group.targets.items()
        }
        images = self.copy.read(rows)
        return {
            "task": task, "source": group.source, "images": images, "rows": torch.from_numpy(rows), "targets": targets
        }  # fmt: skip

    def _next(self, task: str) -> LabelGroup:
        """The source whose turn it is: turns are in proportion to the square root of the stamps, at least nearly."""
        groups = [group for group in self.groups if group.task == task]
        group = min(groups, key=lambda group: ((self.turns[group.name] + 0.5) / len(group.rows) ** 0.5, group.name))
        self.turns[group.name] += 1
        return group


def _spread(values: NDArray[Any], places: NDArray[np.int64], count: int) -> Tensor:
    """Values at their places among `count` rows; elsewhere -1 (integers) or NaN."""
    missing = -1 if np.issubdtype(values.dtype, np.integer) else np.nan
    result = np.full((count, *values.shape[1:]), missing, dtype=values.dtype)
    result[places] = values
    return torch.from_numpy(result)


def _class_weights(codes: NDArray[np.int64], classes: int, balance: float) -> NDArray[np.float64]:
    known = codes >= 0
    counts = np.maximum(np.bincount(codes[known], minlength=classes), 1)
    weights = (known.sum() / classes / counts) ** balance
    return np.where(known, weights[np.maximum(codes, 0)], 1.0)


def _votes(table: LabelledStamps, fractions: dict[str, Tensor], supposed: float) -> dict[str, Tensor]:
    """Votes of each question, told or supposed, under the name `<question>.votes`."""
    named = {
        question: {answer: fractions[question][:, place] for place, answer in enumerate(answers)}
        for question, answers in table.scheme.questions
    }
    votes = {}
    for question, share in reach(named, table.tree).items():
        told = fractions.get(f"{question}.voters", torch.full_like(share, torch.nan))
        votes[f"{question}.votes"] = torch.where(torch.isfinite(told), told, supposed * share)
    return votes
