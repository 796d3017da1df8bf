"""From the score of a fit in which both classes weigh alike to a probability that counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

PRIOR_MEAN, PRIOR_SPREAD = np.array([0.0, -4.0]), np.array([0.5, 2.0])
"""Of the logarithm of the slope and the offset, before any answer.

A fit in which both classes weigh alike is right after the logit of the share of wanted rows is added: -4 is one in
fifty, and two spreads go from one in three thousand to a half.
"""


@dataclass(frozen=True)
class Calibration:
    """The logit that counts: slope * score + offset.

    Attributes
    ----------
    covariance
        (2, 2) of the logarithm of the slope and the offset.
    """

    slope: float
    offset: float
    covariance: Floats

    def draws(self, logits: Floats, count: int, generator: np.random.Generator) -> Iterator[Floats]:
        """`count` times what the calibrated (m,) logits might be as well, (m,) each."""
        for steeper, higher in generator.multivariate_normal(np.zeros(2), self.covariance, count):
            yield np.exp(steeper) * (logits - self.offset) + self.offset + higher


UNCALIBRATED = Calibration(1.0, 0.0, np.diag(PRIOR_SPREAD**2))


def calibrate(scores: Floats, wanted: NDArray[np.bool_]) -> Calibration:
    """Platt's fit (1999) with a prior, to scores (n,) by fits that had not seen the answers; Laplace's covariance.

    Sheets choose rows by what is known of them, never by the answer, so that the answers of a score are a fair sample
    of that score. Examples that somebody brought along are not: leave them out.
    """
    from scipy.optimize import minimize

    sign = np.where(wanted, 1.0, -1.0)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        steep = np.exp(parameters[0]) * scores
        pull = (parameters - PRIOR_MEAN) / PRIOR_SPREAD
        margin = sign * (steep + parameters[1])
        slack = -sign * expit(-margin)
        gradient = np.array([slack @ steep, slack.sum()]) + pull / PRIOR_SPREAD
        return float(np.logaddexp(0, -margin).sum() + 0.5 * pull @ pull), gradient

    best = minimize(loss, PRIOR_MEAN, jac=True, method="L-BFGS-B", bounds=[(-3, 3), (-20, 20)]).x
    steep = np.exp(best[0]) * scores
    probability = expit(steep + best[1])
    along = np.stack([steep, np.ones_like(steep)])
    # Fisher's information, which is positive whatever the answers were
    information = (along * probability * (1 - probability)) @ along.T + np.diag(PRIOR_SPREAD**-2)
    return Calibration(float(np.exp(best[0])), float(best[1]), np.linalg.inv(information))
