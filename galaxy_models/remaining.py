"""How many of the wanted rows are still to be found, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 400


@dataclass(frozen=True)
class Remaining:
    """Wanted rows among those that nobody has labelled: expectation, and limits of 95 %."""

    expected: float
    low: float
    high: float


def estimate_remaining(scores: NDArray[np.float32], drawn: NDArray[np.bool_], seed: int) -> Remaining:
    """Sum of the calibrated probabilities, drawn with what stamps shown at random allow.

    Parameters
    ----------
    scores
        (m,) calibrated logits of the rows that are left.
    drawn
        (k,) labels of rows that were shown by chance.
    """
    if not len(scores):
        return Remaining(0.0, 0.0, 0.0)
    generator = np.random.default_rng((seed, 3))
    expected = float((1 / (1 + np.exp(-scores.astype(np.float64)))).sum())
    share = generator.beta(drawn.sum() + 0.5, (~drawn).sum() + 0.5, DRAWS) * len(scores)
    low, high = np.quantile(share, [0.025, 0.975])
    return Remaining(expected, float(min(low, expected)), float(max(high, expected)))
