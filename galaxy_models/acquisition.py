"""Which rows to show next: what looks best, what would teach most, what differs from all, and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REASONS = ("best", "uncertain", "diverse", "random")

EARLY = 5
"""Sheets in which the best come nearly alone."""

NEAR = 10
"""Rows per row of the sheet, first by score, among which `diverse` ones are looked for: beyond them all are unlike."""


@dataclass(frozen=True)
class Ranking:
    """What is known of every row.

    Attributes
    ----------
    scores
        (N,) calibrated logits; NaN for rows without features.
    looked_at
        How many rows, the first of the straight part, a Gaussian process has looked at.
    vectors
        (k,) rows to (k, r) vectors whose products are the covariances of the rows' logits; None where no process knows.
    """

    scores: NDArray[np.float32]
    looked_at: int = 0
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None


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


def shares(count: int, labelled: int) -> dict[str, int]:
    """How many of `count` rows come for each reason.

    One in sixteen for chance and one for diversity; of the others nearly all for the best until `EARLY` sheets' worth
    is labelled, and more than half for uncertainty from then on: the best are soon found, and the border then teaches.
    """
    few = max(count // 16, 1)
    uncertain = few if labelled < EARLY * count else count // 2
    spare = max(count - uncertain - 2 * few, 0)
    wish = {"best": spare, "uncertain": uncertain, "diverse": few, "random": few}
    return wish if count >= 4 else {"best": count, "uncertain": 0, "diverse": 0, "random": 0}


def choose(
    ranking: Ranking, taken: NDArray[np.int64], groups: NDArray[np.int64] | None, count: int, seed: tuple[int, int]
) -> Sheet:
    """Fill a sheet.

    Chance draws first, from all that may come, so that its rows are a fair sample of what nobody has labelled.

    Parameters
    ----------
    taken
        Rows that must not come, labelled ones among them.
    groups
        (N,) near-duplicate groups, -1 for none.
    seed
        Of chance: the search's, and the number of labels.
    """
    scores, picker = ranking.scores, _Picker(ranking.scores, taken, groups)
    generator, wish = np.random.default_rng((*seed, 2)), shares(count, seed[1])
    random = picker.take(picker.drawn(generator, wish["random"]), wish["random"])
    first = picker.best(max(ranking.looked_at, NEAR * count))
    best = picker.take(first, wish["best"])
    uncertain = picker.take(first[np.argsort(np.abs(scores[first]), kind="stable")], wish["uncertain"])
    diverse = picker.take(
        _unlike(ranking, first[: NEAR * count], [*best, *uncertain], wish["diverse"]), wish["diverse"]
    )
    more = picker.take(first, count - len(best) - len(uncertain) - len(diverse) - len(random))
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

    def drawn(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Free rows by chance: enough that `count` of different groups are among them, unless few are left."""
        free = np.flatnonzero(self.allowed)
        return generator.permutation(free) if len(free) < 10_000 else generator.choice(free, 100 * max(count, 1))

    def best(self, count: int) -> NDArray[np.int64]:
        """The highest scores among the free rows, best first; equal ones by row."""
        free = np.flatnonzero(self.allowed)
        if len(free) > count:
            free = free[np.argpartition(-self.scores[free], count - 1)[:count]]
        return free[np.lexsort((free, -self.scores[free]))]

    def take(self, rows: Iterable[int], count: int) -> list[int]:
        """The first `count` of `rows` that are still free; they are so no more."""
        found: list[int] = []
        for row in rows:
            if len(found) >= count:
                break
            group = -1 if self.groups is None else int(self.groups[row])
            if self.allowed[row] and group not in self.closed:
                found.append(int(row))
                self.allowed[row] = False
                self.closed |= {group} - {-1}
        return found


def _unlike(ranking: Ranking, rows: NDArray[np.int64], known: list[int], count: int) -> list[int]:
    """Rows in the order in which each is the least known once those before it, and `known`, are answered.

    Each time the row of the largest remaining variance of the logit, as a Gaussian process with noise 1 has it.
    """
    if ranking.vectors is None or not len(rows) or not count:
        return []
    vectors, answered = ranking.vectors(rows), ranking.vectors(np.array(known, np.int64))
    order: list[int] = []
    for _ in range(min(len(rows), 2 * count + len(known))):
        if len(answered):
            last, answered = answered[0], answered[1:]
            # what an answer tells is taken out of every vector: the a posteriori covariance, as a square root
            length = float(last @ last)
            part = (1 - 1 / np.sqrt(1 + length)) / max(length, 1e-12)
            vectors = vectors - part * np.outer(vectors @ last, last)
            answered = answered - part * np.outer(answered @ last, last)
            continue
        best = int(np.argmax(np.square(vectors).sum(axis=1)))
        order.append(int(rows[best]))
        answered = vectors[best : best + 1]
    return order
