"""The survey definition's label tables as arrays: which stamps a task may learn from, and what they teach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_models.multitask import HeadScheme
from galaxy_models.votes import TREE, Parents
from infra.errors import GalaxyError
from tasks.ingest.labels import class_codes, class_names, parameter_values, vote_fractions, voters
from tasks.ingest.survey import LabelTable, SurveyDefinition

Targets = dict[str, NDArray[Any]]

TASK_OF_KIND = {"classes": "classification", "votes": "classification", "values": "parameters"}
"""Votes are part of classification: they are the same galaxies, and a step learns from both in one pass."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class LabelledStamps:
    """One label table, reduced to the usable stamps that have a label in it.

    Attributes
    ----------
    rows
        (n,) catalogue rows, rising.
    split
        (n,) `train`, `validation` or `test`; `guard` rows are left out.
    targets
        `classes`: `code` (n,) int64. `votes`: one (n, A) float32 per question, NaN unknown, and `<question>.voters`
        (n,) float32 where the table tells how many answered. `values`: `value` (n, P) float32, NaN unknown.
    tree
        For `votes`: after which answer each question is asked.
    """

    scheme: HeadScheme
    rows: NDArray[np.int64]
    split: NDArray[np.str_]
    targets: Targets
    tree: Parents = field(default_factory=lambda: TREE)

    @property
    def task(self) -> str:
        """The training task that the table belongs to."""
        return TASK_OF_KIND[self.scheme.kind]

    def positions(self, split: str) -> NDArray[np.int64]:
        """Positions within `rows` of one split."""
        return np.flatnonzero(self.split == split)

    def thinned(self, most: int) -> LabelledStamps:
        """At most `most` of the train stamps, evenly over the rows; validation and test stay whole."""
        train = self.positions("train")
        if len(train) <= most:
            return self
        dropped = np.setdiff1d(train, train[np.linspace(0, len(train) - 1, most).astype(int)])
        keep = np.setdiff1d(np.arange(len(self.rows)), dropped)
        targets = {name: values[keep] for name, values in self.targets.items()}
        return LabelledStamps(self.scheme, self.rows[keep], self.split[keep], targets, self.tree)


def labelled_stamps(survey: SurveyDefinition, table: pd.DataFrame) -> list[LabelledStamps]:
    """Every table that feeds classification, votes or parameters and has something to learn from.

    Parameters
    ----------
    table
        The prepared catalogue: label columns, `source`, `split`, `usable`.

    Raises
    ------
    GalaxyError
        If no table has.
    """
    wanted = [label for label in survey.labels if {"classification", "votes", "parameters"} & set(label.feeds)]
    found = [_reduce(label, table) for label in wanted]
    usable = [stamps for stamps in found if _teaches(stamps)]
    if not usable:
        raise GalaxyError(
            f"survey {survey.name}: no label table that feeds classification, votes or parameters has two classes, or "
            f"two stamps with numbers, among the usable train stamps (tables: {[label.name for label in wanted]}); add "
            "labels, or leave out the stage finetune"
        )
    return usable


def _reduce(label: LabelTable, table: pd.DataFrame) -> LabelledStamps:
    eligible = (
        (table["source"] == label.source) & table["usable"].astype(bool) & table["split"].isin(SPLITS)
    ).to_numpy()
    rows = np.flatnonzero(eligible)
    part = table.iloc[rows].reset_index(drop=True)
    answers: tuple[tuple[str, ...], ...] = ()
    targets: Targets
    known: NDArray[np.bool_]
    if label.kind == "classes":
        names = tuple(class_names(label))
        targets = {"code": class_codes(part, label)}
        known = np.asarray(targets["code"] >= 0)
    elif label.kind == "votes":
        fractions = vote_fractions(part, label)
        names = tuple(label.questions)
        answers = tuple(tuple(label.questions[question]) for question in names)
        targets = {question: fractions[question].astype(np.float32) for question in names}
        targets |= {f"{question}.voters": number for question, number in voters(part, label).items()}
        known = np.asarray(np.stack([np.isfinite(values).all(axis=1) for values in fractions.values()]).any(axis=0))
    else:
        names = tuple(label.parameters)
        targets = {"value": parameter_values(part, label).astype(np.float32)}
        known = np.asarray(np.isfinite(targets["value"]).any(axis=1))
    scheme = HeadScheme(label.name, label.source, label.kind, names, answers)
    kept = np.flatnonzero(known)
    split = part["split"].to_numpy(dtype=str)[kept]
    chosen = {name: values[kept] for name, values in targets.items()}
    return LabelledStamps(scheme, rows[kept], split, chosen, _tree(label))


def _tree(label: LabelTable) -> Parents:
    """The definition's own tree, where it tells one, before that of Galaxy Zoo."""
    origin = {
        column: (question, (answer,)) for question, of in label.questions.items() for answer, column in of.items()
    }
    own = {question: origin[column] for question, column in label.parents.items() if column in origin}
    return {**TREE, **own}


def _teaches(stamps: LabelledStamps) -> bool:
    train = stamps.positions("train")
    if stamps.scheme.kind == "classes":
        return len(np.unique(stamps.targets["code"][train])) >= 2
    return len(train) >= 2
