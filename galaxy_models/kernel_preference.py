"""A Gaussian process for the rows that matter: what a straight line misses, and how sure it is of which rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .answer_fit import AnswerFit

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

STRAIGHT = 0.3
"""Share of the straight line in the kernel; the rest is Gaussian."""

WIDTH = 1.0
"""Length scale of the Gaussian part, in units of the median distance of rows that nobody has looked at."""

NOISE = 1.0
"""Variance of an answer around the function, whose own is 1 a priori: some are wrong, and others borderline."""

PRESUMED_ANSWERS = 7.5
"""How many answers all presumed negatives together are worth, once somebody has said no."""

LOGIT = 4.0
"""Logit of a row on which the function, fitted to -1 and 1, is 1."""

RIDGE = 1e-5
"""Added to the kernel of a row with itself, so that rows that are all but the same do no harm."""


@dataclass(frozen=True)
class KernelPreference:
    """Gaussian process regression on the answers, no being -1 and yes 1, in units of a logit.

    Attributes
    ----------
    support
        (m, D) rows that it was fitted to, labelled ones first.
    width
        Length scale of the kernel's Gaussian part.
    weights, spread
        (m,) and (m, r): the kernel with `support` times these gives the mean logit, not calibrated, and vectors whose
        products are the logits' covariances.
    unseen
        (n,) logit of each labelled row by the fit without it.
    """

    support: Singles
    width: float
    weights: Singles
    spread: Singles
    unseen: Floats

    @classmethod
    def learn(cls, labelled: Floats, wanted: NDArray[np.bool_], presumed: Floats) -> KernelPreference:
        """From labelled (n, D) rows, and (m, D) that are presumed not to be wanted."""
        support = np.concatenate([labelled, presumed])
        width = WIDTH * _median_distance(presumed if len(presumed) > 1 else support)
        covariance = kernel(support, support, width) + RIDGE * np.eye(len(support))
        places: Floats = np.asarray(np.linalg.cholesky(covariance), np.float64)
        fit = _regression(places, wanted)
        basis = np.linalg.inv(places).T
        weights, spread = (np.asarray(basis @ each, np.float32) for each in (fit.weights, fit.spread))
        return cls(np.asarray(support, np.float32), width, weights, spread, fit.unseen)

    def logits(self, rows: Singles) -> Singles:
        """(k,) of (k, D) rows."""
        return np.asarray(kernel(rows, self.support, self.width) @ self.weights)

    def vectors(self, rows: Singles) -> Singles:
        """(k, r) of (k, D) rows."""
        return np.asarray(kernel(rows, self.support, self.width) @ self.spread)


def kernel(first: NDArray[Real], second: NDArray[Real], width: float) -> NDArray[Real]:
    """(n, m) kernel of standardised rows: a straight line's a.b / D, and exp(-|a - b|^2 / 2 w^2), by their shares."""
    product = first @ second.T
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * product
    bent = np.exp(-np.maximum(squares, 0) / (2 * width**2))
    return np.asarray(STRAIGHT / first.shape[1] * product + (1 - STRAIGHT) * bent, first.dtype)


def _regression(places: Floats, wanted: NDArray[np.bool_]) -> AnswerFit:
    """Least squares in the kernel's coordinates (m, r), with a priori variance 1; labelled rows come first.

    `unseen` is exact: the fit without a row follows from its leverage.
    """
    target = np.where(np.arange(len(places)) < len(wanted), 1.0, -1.0)
    target[: len(wanted)][~wanted] = -1
    weight = _weights(wanted, len(places) - len(wanted)) / NOISE
    precision = (places * weight[:, None]).T @ places + np.eye(places.shape[1])
    root = np.linalg.inv(np.linalg.cholesky(precision)).T
    weights = root @ (root.T @ (places.T @ (weight * target)))
    labelled = places[: len(wanted)]
    leverage = np.minimum(weight[: len(wanted)] * np.square(labelled @ root).sum(axis=1), 1 - 1e-9)
    unseen = (labelled @ weights - leverage * target[: len(wanted)]) / (1 - leverage)
    return AnswerFit(LOGIT * weights, 0.0, LOGIT * unseen, LOGIT * root)


def _weights(wanted: NDArray[np.bool_], presumed: int) -> Floats:
    """(n + m,): 1 of each no; of the yeses 1, or as much together as all noes where these are more.

    A no weighs no more where it is the rarer answer: early sheets show what is likely, so that a no there lies close to
    what is wanted, and tells little of all the rest. The presumed ones are all that is not wanted before anybody has
    said no, and weigh little afterwards, as some of them are wanted.
    """
    yes, no = int(wanted.sum()), int((~wanted).sum())
    of_presumed = (PRESUMED_ANSWERS if no else yes) / max(presumed, 1)
    return np.concatenate([np.where(wanted, max(no / max(yes, 1), 1.0), 1.0), np.full(presumed, of_presumed)])


def _median_distance(rows: Floats) -> float:
    """Of all pairs of (m, D) rows; that of standardised ones, sqrt(2 D), where all are the same."""
    squares = np.square(rows).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)[np.triu_indices(len(rows), 1)]
    median = float(np.sqrt(np.median(distances))) if len(distances) else 0.0
    return median if median > 1e-6 else float(np.sqrt(2 * rows.shape[1]))
