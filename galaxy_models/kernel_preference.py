"""A Gaussian process for the rows that matter: what a straight line misses, and how sure it is of which rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .answer_fit import AnswerFit, fit_answers

Floats = NDArray[np.float64]

STRENGTH = 10.0
"""A priori variance of the logit."""

WIDTH = 1.0
"""Length scale of the kernel, in units of sqrt(D), the length of a typical standardised row."""


@dataclass(frozen=True)
class KernelPreference:
    """Gaussian process classifier with a Gaussian kernel, in Laplace's approximation.

    Attributes
    ----------
    support
        (m, D) rows that it was fitted to, labelled ones first.
    basis
        (m, r): kernel with `support` times it gives coordinates in which the kernel is the plain product.
    fit
        Of the answers, in these coordinates.
    """

    support: Floats
    basis: Floats
    fit: AnswerFit

    @classmethod
    def learn(cls, labelled: Floats, wanted: NDArray[np.bool_], presumed: Floats) -> KernelPreference:
        """From labelled (n, D) rows, and (m, D) that are presumed not to be wanted."""
        support = np.concatenate([labelled, presumed])
        values, vectors = np.linalg.eigh(kernel(support, support))
        kept = values > 1e-5 * values[-1]
        root = np.sqrt(values[kept])
        places = vectors[:, kept] * root
        fit = fit_answers(places[: len(labelled)], wanted, places[len(labelled) :], STRENGTH)
        return cls(support, vectors[:, kept] / root, fit)

    def logits(self, rows: Floats) -> tuple[Floats, Floats]:
        """(k, D) rows to their mean logit (k,), not calibrated, and (k, r) vectors whose products are covariances."""
        places = kernel(rows, self.support) @ self.basis
        return places @ self.fit.weights + self.fit.intercept, places @ self.fit.spread


def kernel(first: Floats, second: Floats) -> Floats:
    """(n, m) exp(-|a - b|^2 / 2 w^2 D) of standardised rows."""
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * WIDTH**2 * first.shape[1])))
