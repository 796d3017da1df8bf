"""Class-weighted logistic regression of a handful of answers, with what it would say of each if it had not seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

PRESUMED_WEIGHT = 0.3
"""What all presumed negatives weigh together, as a share of what is not wanted, once somebody has said no."""


@dataclass(frozen=True)
class AnswerFit:
    """The fit, and its uncertainty.

    Attributes
    ----------
    weights, intercept
        (D,) and its constant: logit of a row x is x . weights + intercept.
    unseen
        (n,) logit of each labelled row by the fit without it.
    spread
        (D, D); x @ spread are vectors whose products are the a posteriori covariances of the logits.
    """

    weights: Floats
    intercept: float
    unseen: Floats
    spread: Floats


def fit_answers(labelled: Floats, wanted: NDArray[np.bool_], presumed: Floats, variance: float) -> AnswerFit:
    """Fit labelled rows (n, D) and rows (m, D) that nobody has looked at, presumed not to be wanted.

    Parameters
    ----------
    variance
        A priori variance of each weight.

    Notes
    -----
    Wanted and unwanted weigh alike. The presumed ones are all of what is unwanted before anybody has said no, and weigh
    little afterwards, as some of them are wanted. `unseen` comes of one Newton step from the whole fit
    (approximate leave-one-out, Rad & Maleki 2020): each fold would cost a fit, and hold back much of what is little.
    """
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([labelled, presumed])
    target = np.concatenate([wanted, np.zeros(len(presumed), bool)])
    size = rows.shape[1]
    if target.all() or not target.any():  # nothing to tell apart
        return AnswerFit(np.zeros(size), 0.0, np.zeros(len(labelled)), np.sqrt(variance) * np.eye(size))
    weight = _weights(wanted, len(presumed))
    model = LogisticRegression(C=variance, solver="newton-cholesky", max_iter=200)
    model.fit(rows, target, sample_weight=weight)
    weights, intercept = model.coef_[0], float(model.intercept_[0])
    logit = rows @ weights + intercept
    probability = expit(logit)
    known = weight * probability * (1 - probability)
    design = np.column_stack([rows, np.ones(len(rows))])
    precision = (design * known[:, None]).T @ design + np.diag([*np.full(size, 1 / variance), 1e-6])
    root = np.linalg.inv(np.linalg.cholesky(precision)).T
    reach = np.square(design[: len(labelled)] @ root).sum(axis=1)
    pull = weight * (target - probability)
    leverage = np.minimum(reach * known[: len(labelled)], 0.99)
    unseen = logit[: len(labelled)] - reach * pull[: len(labelled)] / (1 - leverage)
    return AnswerFit(weights, intercept, unseen, root[:size])


def _weights(wanted: NDArray[np.bool_], presumed: int) -> Floats:
    """(n + m,) one per answer on average."""
    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    share = 1.0 if not negatives else PRESUMED_WEIGHT if presumed else 0.0
    total = float(max(positives, negatives))
    of_negative = total * (1 - share) / max(negatives, 1)
    of_presumed = total * share / max(presumed, 1)
    return np.concatenate([np.where(wanted, total / max(positives, 1), of_negative), np.full(presumed, of_presumed)])
