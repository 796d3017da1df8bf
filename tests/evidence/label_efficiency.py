"""How many labels another network needs for what ours does with few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.evidence.labels_needed import labels_needed
from tests.evidence.macro_auc import Answers, auc_of, resampled

DRAWS = 300


@dataclass(frozen=True)
class Efficiency:
    """Of one number of our labels.

    Attributes
    ----------
    labels, auc
        Ours, a class, and what our network has with them.
    needed, reached
        Labels a class with which the other has it, within those that were measured; `reached` is false where it does
        not have it with the most.
    low, high
        95 % bootstrap interval, over test galaxies, of `needed` over our labels, each draw within those that were
        measured.
    """

    labels: int
    auc: float
    needed: float
    reached: bool
    low: float
    high: float

    @property
    def ratio(self) -> float:
        """Their labels over ours."""
        return self.needed / self.labels


def efficiencies(
    ours: Mapping[int, Answers], others: Mapping[int, Answers], scored: Sequence[int], draws: int = DRAWS
) -> list[Efficiency]:
    """Of each number of our labels but none, the fewest first.

    Parameters
    ----------
    ours, others
        Labels a class to answers on the same test galaxies.
    """
    counts = sorted(filter(None, ours))
    generator, drawn = np.random.default_rng(0), []
    for _ in range(draws):
        picks = resampled(next(iter(ours.values())), generator)
        curve = {count: auc_of(answers, scored, picks) for count, answers in others.items()}
        drawn.append([labels_needed(curve, auc_of(ours[count], scored, picks))[0] / count for count in counts])
    lows, highs = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    curve = {count: auc_of(answers, scored) for count, answers in others.items()}
    found = []
    for count, low, high in zip(counts, lows, highs, strict=True):
        auc = auc_of(ours[count], scored)
        needed, reached = labels_needed(curve, auc)
        found.append(Efficiency(count, auc, needed, reached, float(low), float(high)))
    return found
