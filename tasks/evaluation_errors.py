"""Evaluation sets of votes and of parameters: what is known of each object, and by how much a model misses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from galaxy_models.metrics import object_errors

FRACTIONS, SCALED = "fraction_error", "scaled_error"
"""Metrics that are a mean over objects of their own mean absolute error: of votes' fractions, and of parameters in
units of each one's spread over the set. The names of both follow a table's name and a point."""

TRUTH = "truth."
"""Beginning of the columns that hold what is known, NaN where it is not."""

STEMS = {FRACTIONS: "votes_", SCALED: ""}
"""Metric to what a model's columns of that kind begin with."""


def truth_columns(names: Sequence[str], truth: NDArray[Any]) -> pd.DataFrame:
    """What is known of N objects as columns of an evaluation set, and as text in `label`.

    Parameters
    ----------
    names
        Of the parameters, or `<question>_<answer>`.
    truth
        (N, P), NaN for unknown.
    """
    table = pd.DataFrame({f"{TRUTH}{name}": truth[:, place] for place, name in enumerate(names)})
    return table.assign(label=[" ".join(f"{number:.6g}" for number in row) for row in truth])


def known_names(table: pd.DataFrame) -> list[str]:
    """The parameters, or `<question>_<answer>`, that an evaluation set knows."""
    return [name.removeprefix(TRUTH) for name in table.columns if name.startswith(TRUTH)]


def errors(table: pd.DataFrame, answers: ArrayLike, metric: str) -> NDArray[np.float64]:
    """(N,) errors of answers, (N, P) in the order of `known_names`, by a metric whose name ends in one of the two."""
    truth = table[[f"{TRUTH}{name}" for name in known_names(table)]].to_numpy(np.float64)
    return object_errors(truth, answers, in_spreads=metric.endswith(SCALED))
