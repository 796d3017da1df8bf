"""How many of the wanted rows are still to be found, with an interval that owns up to what few answers can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .answer_calibration import Calibration

Floats = NDArray[np.float64]

DRAWS = 2000
BINS = 500
"""Of the logits: a million rows are then as quick as a thousand."""

MISFIT = 0.5
"""Spread, in e-folds, of the truth around a calibrated sum: no logistic curve is right in the tail where most rows lie.

Our choice; a test on simulated populations holds the interval to it, on real ones its coverage is not measured."""


@dataclass(frozen=True)
class Remaining:
    """Wanted rows among those that nobody has labelled: expectation, and limits of 95 %."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Shown:
    """What came of the rows that sheets have shown.

    Attributes
    ----------
    rows, wanted
        How many were answered, and with yes.
    random, random_wanted
        How many of them were drawn by chance, and answered with yes.
    """

    rows: int
    wanted: int
    random: int
    random_wanted: int


def estimate_remaining(logits: NDArray[np.float32], calibration: Calibration, shown: Shown, seed: int) -> Remaining:
    """Expected number of wanted rows among those left, from probabilities and from what chance has shown.

    Parameters
    ----------
    logits
        (m,) calibrated, of the rows that are left.

    Notes
    -----
    Slope and offset of the calibration are drawn from their Gaussian posterior; each draw's sum of probabilities is
    spread by `MISFIT`, weighed by how likely the answers to the random rows are if it is true, and turned into a number
    of rows (Poisson). Random rows were drawn while sheet after sheet took wanted rows away: on average half of the
    rows found since were still there.
    """
    if not len(logits):
        return Remaining(0.0, 0.0, 0.0)
    generator = np.random.default_rng((seed, 3))
    count, edges = np.histogram(logits, BINS)
    filled = count > 0
    centre, count = ((edges[1:] + edges[:-1]) / 2)[filled], count[filled].astype(np.float64)
    sums = np.array([count @ expit(curve) for curve in calibration.draws(centre, DRAWS, generator)])
    share = np.clip(sums / len(logits), 1e-12, 1 - 1e-12)
    share = expit(np.log(share / (1 - share)) + MISFIT * generator.standard_normal(DRAWS))
    weight = _likelihood(share * len(logits), len(logits), shown)
    picks = generator.choice(DRAWS, DRAWS, p=weight)
    numbers = np.minimum(generator.poisson(share[picks] * len(logits)), len(logits))
    low, high = np.quantile(numbers, [0.025, 0.975])
    return Remaining(float(np.median(numbers)), float(low), float(high))


def _likelihood(left: Floats, rows: int, shown: Shown) -> Floats:
    """Of the answers to random rows, for each number of wanted ones left; normalised to sum 1."""
    rate = np.clip((left + shown.wanted / 2) / (rows + shown.rows / 2), 1e-12, 1 - 1e-12)
    other = shown.random - shown.random_wanted
    logarithm = shown.random_wanted * np.log(rate) + other * np.log1p(-rate)
    likelihood = np.exp(logarithm - logarithm.max())
    return np.asarray(likelihood / likelihood.sum())
