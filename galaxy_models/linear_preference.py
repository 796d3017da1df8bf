"""A calibrated linear score of what somebody wants, fitted to a handful of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK = 16384
"""Rows that are scored together."""

STRENGTH = 1.0
"""A priori spread of the logit of a standardised row, whatever the number of features."""

PRESUMED_WEIGHT = 0.3
"""What all presumed negatives weigh together, as a share of the positives."""

FOLDS = 5


@dataclass(frozen=True)
class LinearPreference:
    """Calibrated logit of a standardised row x: x . weights + intercept."""

    weights: Floats
    intercept: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"weights": self.weights.tolist(), "intercept": self.intercept}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LinearPreference:
        """What `to_dict` gave."""
        return cls(np.array(content["weights"], np.float64), float(content["intercept"]))


def linear_scores(features: NDArray[np.float32], linear: LinearPreference) -> NDArray[np.float32]:
    """(N,) logits of (N, D) features, block by block, so that a memory map is never in memory as a whole."""
    weights = linear.weights.astype(np.float32)
    scores = np.empty(len(features), np.float32)
    for start in range(0, len(features), BLOCK):
        block = slice(start, start + BLOCK)
        np.matmul(features[block], weights, out=scores[block])
    scores += np.float32(linear.intercept)
    return scores


def fit_linear(
    labelled: Floats, wanted: NDArray[np.bool_], presumed: Floats, counts: NDArray[np.bool_]
) -> LinearPreference:
    """Class-weighted logistic regression, and Platt's calibration on answers that the fit had not seen.

    Parameters
    ----------
    labelled, wanted
        (n, D) and (n,).
    presumed
        (m, D) rows that nobody has looked at; they weigh little, as some of them are wanted.
    counts
        (n,) rows that the calibration may use: examples were brought along because they are wanted, and say nothing
        of how often a row of their score is.
    """
    weights, intercept = _logistic(labelled, wanted, presumed)
    unseen = np.empty(len(wanted))
    for fold in range(FOLDS):
        test = _fold_of(wanted) == fold
        if test.any():
            w, b = _logistic(labelled[~test], wanted[~test], presumed)
            unseen[test] = labelled[test] @ w + b
    slope, offset = _platt(unseen[counts], wanted[counts])
    return LinearPreference(slope * weights, slope * intercept + offset)


def _fold_of(wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Folds that share out each class evenly."""
    fold = np.empty(len(wanted), np.int64)
    for value in (False, True):
        members = np.flatnonzero(wanted == value)
        fold[members] = np.arange(len(members)) % FOLDS
    return fold


def _logistic(labelled: Floats, wanted: NDArray[np.bool_], presumed: Floats) -> tuple[Floats, float]:
    """Weights (D,) and intercept; with one class only and nothing presumed, all is alike."""
    from sklearn.linear_model import LogisticRegression

    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    if not positives or not negatives + len(presumed):
        return np.zeros(labelled.shape[1]), 0.0
    rows = np.concatenate([labelled, presumed])
    target = np.concatenate([wanted, np.zeros(len(presumed), bool)])
    # Both classes weigh alike; the presumed ones are a third of what is not wanted, and all of it before a first no.
    share = 1.0 if not negatives else PRESUMED_WEIGHT if len(presumed) else 0.0
    total = float(max(positives, negatives))
    weight = np.concatenate(
        [
            np.where(wanted, total / positives, total * (1 - share) / max(negatives, 1)),
            np.full(len(presumed), total * share / max(len(presumed), 1)),
        ]
    )
    model = LogisticRegression(C=STRENGTH**2 / rows.shape[1], solver="newton-cholesky", max_iter=200, tol=1e-8)
    model.fit(rows, target, sample_weight=weight)
    return model.coef_[0], float(model.intercept_[0])


def _platt(scores: Floats, wanted: NDArray[np.bool_], steps: int = 50) -> tuple[float, float]:
    """Slope and offset of the logit (Platt 1999), held near 1 and 0 by a Gaussian prior of spread 1 each.

    The prior stands for what few answers cannot say; the slope is fitted as its logarithm and so stays positive.
    """
    from scipy.optimize import minimize

    def loss(parameters: Floats) -> float:
        logit = np.exp(parameters[0]) * scores + parameters[1]
        return float(np.logaddexp(0, np.where(wanted, -logit, logit)).sum() + 0.5 * (parameters**2).sum())

    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3, 3), (-12, 12)]).x
    return float(np.exp(best[0])), float(best[1])
