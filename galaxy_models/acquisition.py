"""Which rows to show next: what looks best, what would teach most, what differs from all, and chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REASONS = ("best", "uncertain", "diverse", "random")

CANDIDATES = 3000
"""Highest scores among which uncertainty and diversity look; the work of a round beyond one score for every row."""


@dataclass(frozen=True)
class Sheet:
    """What a round shows.

    Attributes
    ----------
    rows
        (k,) int64, best first within a reason.
    reasons
        (k,) of `REASONS`.
    """

    rows: NDArray[np.int64]
    reasons: tuple[str, ...]


def shares(count: int) -> dict[str, int]:
    """How many of `count` rows come for each reason."""
    uncertain, diverse, random = count // 4, count // 8, count // 8
    return {"best": count - uncertain - diverse - random, "uncertain": uncertain, "diverse": diverse, "random": random}


def choose(
    features: NDArray[np.float32],
    scores: NDArray[np.float32],
    labelled: NDArray[np.int64],
    taken: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
    count: int,
    seed: int,
) -> Sheet:
    """Fill a sheet.

    Chance draws first, from all that may come, so that its rows are a fair sample of what nobody has labelled.

    Parameters
    ----------
    features, scores
        (N, D), and (N,) logits; NaN for rows that may not come.
    labelled
        (n,) rows from which `diverse` ones should differ.
    taken
        Rows that must not come, labelled ones among them.
    groups
        (N,) near-duplicate groups, -1 for none.
    """
    picker = _Picker(scores, taken, groups)
    generator = np.random.default_rng((seed, 2, len(labelled)))
    wish = shares(count)
    random = picker.take(generator.permutation(picker.free()), wish["random"])
    candidates = picker.best(CANDIDATES)
    best = picker.take(candidates, wish["best"])
    uncertain = picker.take(candidates[np.argsort(np.abs(scores[candidates]), kind="stable")], wish["uncertain"])
    known = np.concatenate([labelled, best, uncertain])
    diverse = _spread_out(features, candidates, known, picker, wish["diverse"])
    more = picker.take(candidates, count - len(best) - len(uncertain) - len(diverse) - len(random))
    rows = {"best": [*best, *more], "uncertain": uncertain, "diverse": diverse, "random": random}
    reasons = tuple(reason for reason in REASONS for _ in rows[reason])
    return Sheet(np.array([row for reason in REASONS for row in rows[reason]], np.int64), reasons)


class _Picker:
    """Hands out rows, each once and one of a group."""

    def __init__(self, scores: NDArray[np.float32], taken: NDArray[np.int64], groups: NDArray[np.int64] | None) -> None:
        self.scores, self.groups = scores, groups
        self.allowed = np.isfinite(scores)
        self.allowed[taken] = False
        self.closed: set[int] = set()
        if groups is not None and len(taken):
            self.closed = set(groups[taken].tolist()) - {-1}
            self.allowed &= ~np.isin(groups, list(self.closed))

    def free(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.allowed)

    def best(self, count: int) -> NDArray[np.int64]:
        """The highest scores among the free rows, best first; equal ones by row."""
        free = self.free()
        if len(free) > count:
            free = free[np.argpartition(-self.scores[free], count - 1)[:count]]
        return free[np.lexsort((free, -self.scores[free]))]

    def take(self, rows: NDArray[np.int64], count: int) -> list[int]:
        """The first `count` of `rows` that are still free; they are so no more."""
        found: list[int] = []
        for row in rows:
            if len(found) == count:
                break
            group = -1 if self.groups is None else int(self.groups[row])
            if self.allowed[row] and (group == -1 or group not in self.closed):
                found.append(int(row))
                self.allowed[row] = False
                self.closed |= {group} - {-1}
        return found


def _spread_out(
    features: NDArray[np.float32],
    candidates: NDArray[np.int64],
    known: NDArray[np.int64],
    picker: _Picker,
    count: int,
) -> list[int]:
    """Candidates, one after the other, whose nearest known row is farthest away."""
    from scipy.spatial.distance import cdist

    found: list[int] = []
    if not count or not len(candidates):
        return found
    vectors = np.asarray(features[candidates], np.float64)
    distance = cdist(vectors, np.asarray(features[known], np.float64)).min(axis=1)
    while len(found) < count:
        row = picker.take(candidates[np.argsort(-distance, kind="stable")], 1)
        if not row:
            break
        found += row
        distance = np.minimum(distance, cdist(vectors, np.asarray(features[row], np.float64))[:, 0])
    return found
