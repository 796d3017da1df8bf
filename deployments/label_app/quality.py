"""How good a search is: shares with their intervals, from stamps that were drawn at random and labelled blind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


@dataclass(frozen=True)
class Share:
    """A share of `total`, with Wilson's 95 % interval."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.count / self.total


def share_of(count: int, total: int) -> Share | None:
    """A share and its interval (Wilson 1927), None of nothing."""
    if total == 0:
        return None
    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Quality:
    """What a random sample says of the list of all galaxies whose probability is at least a threshold.

    Attributes
    ----------
    purity
        Of the listed ones, the share that is wanted; None if the sample has none that is listed.
    completeness
        Of the wanted ones, the share that is listed; None if the sample has none that is wanted.
    wanted
        Of all galaxies, the share that is wanted; None without a label.
    """

    threshold: float
    purity: Share | None
    completeness: Share | None
    wanted: Share | None


def quality_of(probabilities: NDArray[np.float32], wanted: NDArray[np.bool_], threshold: float) -> Quality:
    """Purity and completeness from (n,) probabilities and (n,) labels of a random sample."""
    listed = probabilities >= threshold
    found = int((listed & wanted).sum())
    return Quality(
        threshold,
        share_of(found, int(listed.sum())),
        share_of(found, int(wanted.sum())),
        share_of(int(wanted.sum()), len(wanted)),
    )
