"""By what the gate judges a fine-tuned model: the test stamps of one label table, and what is earned for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_models.multitask import HeadScheme
from infra.errors import GalaxyError
from tasks.evaluation_errors import FRACTIONS, SCALED, errors, truth_columns
from tasks.train.finetune_scores import Answer
from tasks.train.label_tables import LabelledStamps, Targets

METRICS = {"classes": "accuracy", "votes": FRACTIONS, "values": SCALED}
"""Kind of table to the metric that the gate judges by, the kinds in the order in which one is chosen."""


def first_tested(tables: Sequence[LabelledStamps]) -> LabelledStamps:
    """The table that the model is judged by: the first of classes with test stamps, else of votes, else of parameters.

    Raises
    ------
    GalaxyError
        If no table has test stamps.
    """
    tested = [table for table in tables if len(table.positions("test"))]
    if not tested:
        raise GalaxyError(
            f"no label table has usable stamps in the split `test` (tables: {[each.scheme.table for each in tables]}), "
            "so the model could not be evaluated; label more objects, or enlarge the test part of the split"
        )
    return min(tested, key=lambda table: [*METRICS].index(table.scheme.kind))


def headline_of(scheme: HeadScheme) -> str:
    """Name of the metric of a table."""
    return f"{scheme.table}.{METRICS[scheme.kind]}"


def higher_is_better(scheme: HeadScheme) -> bool:
    """Whether that metric is no error."""
    return scheme.kind == "classes"


def class_evaluation(
    scheme: HeadScheme, probabilities: NDArray[np.floating[Any]], codes: NDArray[np.int64]
) -> pd.DataFrame:
    """The class of each of n stamps, and 1 where the most probable one is right, else 0.

    Parameters
    ----------
    probabilities
        (n, K).
    codes
        (n,) true ones.
    """
    return pd.DataFrame(
        {
            "label": pd.Categorical(np.array(scheme.names)[codes], categories=scheme.names),
            "score": (probabilities.argmax(axis=1) == codes).astype(np.float64),
        }
    )


def error_evaluation(scheme: HeadScheme, answer: Answer, targets: Targets) -> pd.DataFrame:
    """The votes or parameters of each stamp, and its error as `tasks/evaluation_errors.py` has it."""
    assert answer.value is not None
    if scheme.kind == "votes":
        names = [f"{question}_{each}" for question, answers in scheme.questions for each in answers]
        truth = np.concatenate([targets[question] for question in scheme.names], axis=1)
        value = np.concatenate([answer.value[question] for question in scheme.names], axis=1)
    else:
        names, truth, value = list(scheme.names), targets["value"], answer.value[""]
    table = truth_columns(names, truth)
    return table.assign(score=errors(table, value, headline_of(scheme)))
