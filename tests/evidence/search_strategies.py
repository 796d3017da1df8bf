"""Ways of searching: from the answers so far to a score of every galaxy, and to those that are shown next."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from galaxy_models.preference import Preference

SHEET = 16
"""Galaxies that are shown in a round."""

COMPONENTS = 16
"""Principal components that the Gaussian process sees, as Protege's does not see all features either."""

OURS, RANDOM, NEAREST = "ours", "random", "nearest neighbour"
UNCERTAIN, IMPROVEMENT = "uncertainty only", "Gaussian process"

Rows = NDArray[np.int64]
Floats = NDArray[np.floating]
NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Answers:
    """What the annotator has said so far, in the order of asking.

    Attributes
    ----------
    barred
        Rows that are never shown, as they judge what was learnt.
    """

    rows: Rows
    wanted: NDArray[np.bool_]
    reasons: tuple[str, ...]
    barred: Rows = field(default_factory=lambda: NOBODY)

    @property
    def taken(self) -> Rows:
        """Rows that must not be shown."""
        return np.union1d(self.rows, self.barred)


Proposal = tuple[Floats, Rows, Sequence[str]]
"""A score of every row, the next sheet, and the reason of each of its rows."""

Strategy = Callable[[Floats, Answers, int], Proposal]
"""(standardised features, answers, seed) to a proposal."""


def ours(features: Floats, answers: Answers, seed: int) -> Proposal:
    """The project's learner, with the sheets that it proposes."""
    learnt = _learnt(features, answers, seed)
    sheet = learnt.propose(SHEET, exclude=answers.barred)
    return learnt.probabilities(), sheet.rows, sheet.reasons


def uncertainty(features: Floats, answers: Answers, seed: int) -> Proposal:
    """The same learner, asking only about what it is least sure of."""
    probabilities = _learnt(features, answers, seed).probabilities()
    return probabilities, first(-np.abs(probabilities - 0.5), answers.taken, SHEET), ["uncertain"] * SHEET


def random(features: Floats, answers: Answers, seed: int) -> Proposal:
    """The same learner, asking about anything."""
    probabilities = _learnt(features, answers, seed).probabilities()
    chance = np.random.default_rng((seed, len(answers.rows))).random(len(features))
    return probabilities, first(chance, answers.taken, SHEET), ["random"] * SHEET


def nearest(features: Floats, answers: Answers, seed: int) -> Proposal:
    """Plain nearest neighbour: by the distance to the nearest row that was answered with yes."""
    from scipy.spatial.distance import cdist

    near = -cdist(features, features[answers.rows[answers.wanted]]).min(axis=1)
    return near, first(near, answers.taken, SHEET), ["best"] * SHEET


def gaussian_process(features: Floats, answers: Answers, seed: int) -> Proposal:
    """Expected improvement of a Gaussian process (Matern and white noise) on principal components, as in Protege."""
    from scipy.stats import norm
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel

    components = PCA(min(COMPONENTS, features.shape[1]), random_state=0).fit_transform(features)
    components = components / components.std(axis=0).max()
    process = GaussianProcessRegressor(Matern() + WhiteKernel(), normalize_y=True, random_state=0)
    with warnings.catch_warnings():  # a length scale at its bound is what three equal answers give
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(components[answers.rows], answers.wanted.astype(float))
    mean, spread = process.predict(components, return_std=True)
    spread = np.maximum(spread, 1e-9)
    gain = (mean - answers.wanted.max()) / spread
    improvement = spread * (gain * norm.cdf(gain) + norm.pdf(gain))
    return mean, first(improvement, answers.taken, SHEET), ["best"] * SHEET


STRATEGIES: Mapping[str, Strategy] = {
    OURS: ours,
    RANDOM: random,
    NEAREST: nearest,
    UNCERTAIN: uncertainty,
    IMPROVEMENT: gaussian_process,
}


def first(scores: Floats, taken: Rows, count: int) -> Rows:
    """The highest scores among the rows that are not taken; equal ones by row."""
    free = np.setdiff1d(np.arange(len(scores)), taken)
    return free[np.argsort(-scores[free], kind="stable")[:count]]


def _learnt(features: Floats, answers: Answers, seed: int) -> Preference:
    return Preference.learn(features, answers.rows, answers.wanted, reasons=answers.reasons, seed=seed)
