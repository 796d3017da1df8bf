"""Macro AUC of answers on several test folds, and how far chance moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_models.metrics import auc

Answers = Sequence[dict[str, Any]]
"""Of each fold and draw of the labels: `fold`, `codes` (n,) and `probabilities` (n, classes)."""

Picks = Mapping[int, NDArray[np.int64]]
"""Fold to the (n,) places of its test galaxies that a bootstrap drew."""


@dataclass(frozen=True)
class Score:
    """A figure with its 95 % interval over galaxies, and the spread of its folds and draws."""

    value: float
    low: float
    high: float
    spread: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def macro_auc_of(answers: Answers, scored: Sequence[int], draws: int = 300) -> Score:
    """Mean over folds and draws of the mean AUC of the scored classes, each against all the rest.

    The interval is a bootstrap's over the test galaxies of each fold; draws of one fold share their galaxies.
    """
    single = [auc_of([each], scored) for each in answers]
    generator = np.random.default_rng(0)
    values = [auc_of(answers, scored, resampled(answers, generator)) for _ in range(draws)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Score(float(np.mean(single)), float(low), float(high), float(np.std(single)))


def auc_of(answers: Answers, scored: Sequence[int], picks: Picks | None = None) -> float:
    """The same without an interval, of all test galaxies or of those picked."""
    return float(np.mean([_of_one(each, scored, picks) for each in answers]))


def resampled(answers: Answers, generator: np.random.Generator) -> Picks:
    """As many galaxies of each fold as it has, with replacement."""
    sizes = {each["fold"]: len(each["codes"]) for each in answers}
    return {fold: generator.integers(size, size=size) for fold, size in sizes.items()}


def _of_one(each: Mapping[str, Any], scored: Sequence[int], picks: Picks | None) -> float:
    codes, table = np.asarray(each["codes"]), np.asarray(each["probabilities"])
    if picks is not None:
        codes, table = codes[picks[each["fold"]]], table[picks[each["fold"]]]
    return float(np.mean([auc(codes == code, table[:, code]) for code in scored]))
