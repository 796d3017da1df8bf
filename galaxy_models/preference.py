"""Learns from a handful of answers what somebody looks for, and chooses what to show them next.

What was tried, on searches of seven targets of Galaxy Zoo 2, EFIGI and DECaLS rings, with two to ten seeds from 100
on, which no reported figure uses. Least squares in a kernel's space finds as much as a Gaussian process classifier,
and orders what is left better, more so with some of a straight line beside the Gaussian. Half the length scale does
harm, and so do whitening and principal components; less noise does a little; ranks in place of values change next to
nothing. Where noes weigh as much as all yeses together, few of them make the second sheet worse than the first was.
Sheets that are nearly all "best" to the end find a little more and leave an order of the rest that is worse than where
the later ones are half uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .acquisition import REASONS, Ranking, Sheet, choose
from .answer_calibration import UNCALIBRATED, Calibration, calibrate
from .answer_fit import fit_answers
from .kernel_preference import KernelPreference
from .linear_preference import STRENGTH, LinearPreference
from .remaining import Remaining, Shown, estimate_remaining

__all__ = ["EXAMPLE", "REASONS", "Preference", "Remaining", "Sheet", "agreement", "first_sheet", "standardise"]

EXAMPLE = "example"
"""Why a labelled row was labelled, where no sheet showed it: somebody brought it along."""

BLOCK = 8192
"""Rows that are looked at together where all are gone through."""

CANDIDATES = 3000
"""Rows, first by the straight part, that the Gaussian process looks at."""

PRESUMED = 300
"""Unlabelled rows that stand for what is not wanted, while too few answers say so."""


FEW = 8
"""Answers of a kind, below which none of them is doubted."""

CLEAR = 1.0
"""Logit before calibration, from which the other answers clearly speak against one."""


@dataclass(frozen=True)
class Preference:
    """What the answers so far say about every row.

    Attributes
    ----------
    features
        (N, D) float32 array or memory map, standardised (see `standardise`). A row that is not finite has no
        embedding: it is never proposed, and its probability is NaN.
    rows, wanted
        (n,) labelled rows, rising, and their labels.
    reasons
        (n,) why each was shown, one of `REASONS` or "example".
    linear
        The straight part, for every row, with its calibration.
    kernel, calibration
        The Gaussian process for the `CANDIDATES` rows that the straight part puts first, and its calibration.
    """

    features: NDArray[np.float32]
    rows: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    reasons: tuple[str, ...]
    linear: LinearPreference
    kernel: KernelPreference | None
    calibration: Calibration
    seed: int = 0

    @classmethod
    def learn(
        cls,
        features: NDArray[np.float32],
        rows: NDArray[np.int64] | Sequence[int],
        wanted: NDArray[np.bool_] | Sequence[bool],
        *,
        reasons: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Preference:
        """Fit the answers; equal answers in any order give the same learner.

        Parameters
        ----------
        features
            (N, D) float32 array or memory map, standardised.
        rows, wanted
            (n,) labelled rows, each once, and whether they are wanted. Positives only is legal, as is one class only.
        reasons
            (n,) why each was shown: what `propose` said, or "example" for what was brought along, which is also the
            default. Only what was shown at random tells without bias how many are wanted.

        Raises
        ------
        ValueError
            If a row is named twice, is not in the table or has no features, or nothing is labelled.
        """
        where, answers, why = _labels(features, rows, wanted, reasons)
        presumed = _presumed_negatives(features, where, seed)
        labelled = np.asarray(features[where], np.float64)
        others = np.asarray(features[presumed], np.float64)
        asked = np.array([reason != EXAMPLE for reason in why], bool)
        straight = fit_answers(labelled, answers, others, STRENGTH / features.shape[1])
        calibration = calibrate(straight.unseen[asked], answers[asked])
        bent = KernelPreference.learn(labelled, answers, others)
        bent_calibration = calibrate(bent.unseen[asked], answers[asked])
        linear = LinearPreference.of(straight, calibration)
        return cls(features, where, answers, why, linear, bent, bent_calibration, seed)

    @cached_property
    def ranking(self) -> Ranking:
        """Calibrated logits of every row; one pass over the features."""
        scores = self.linear.scores(self.features)
        if self.kernel is None:
            return Ranking(scores)
        known = np.flatnonzero(np.isfinite(scores))
        if len(known) > CANDIDATES:
            known = known[np.argpartition(-scores[known], CANDIDATES - 1)[:CANDIDATES]]
        scores[known] = self.calibration.slope * self.kernel.logits(self.features[known]) + self.calibration.offset
        return Ranking(scores, len(known), self._vectors)

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) calibrated logit of every row, NaN where it has no features."""
        return self.ranking.scores

    def probabilities(self, rows: NDArray[np.int64] | Sequence[int] | None = None) -> NDArray[np.float32]:
        """(N,), or (len(rows),): how likely a row is wanted, calibrated; NaN where it has no features."""
        logits = self.scores if rows is None else self.scores[np.asarray(rows, np.int64)]
        return np.asarray(expit(logits), np.float32)

    def propose(
        self,
        count: int,
        *,
        exclude: NDArray[np.int64] | Sequence[int] = (),
        groups: NDArray[np.int64] | None = None,
    ) -> Sheet:
        """The next sheet: the best, the most uncertain, some that differ from all, and some at random.

        Parameters
        ----------
        count
            Rows wanted; fewer come if fewer are left.
        exclude
            Rows that must not come, besides the labelled ones.
        groups
            (N,) near-duplicate group of each row, -1 for none. One of a group comes, and none of a group that has a
            labelled or excluded member.
        """
        taken = np.union1d(self.rows, np.asarray(exclude, np.int64))
        return choose(self.ranking, taken, groups, count, (self.seed, len(self.rows)))

    def remaining(self, exclude: NDArray[np.int64] | Sequence[int] = ()) -> Remaining:
        """How many wanted rows are still to be found among those neither labelled nor in `exclude`."""
        left = np.isfinite(self.scores)
        left[self.rows] = False
        left[np.asarray(exclude, np.int64)] = False
        return estimate_remaining(self.scores[left], self.calibration, self._shown(), self.seed)

    def at_odds(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(k,) labelled rows that the other answers alone would have had otherwise, the clearest first; (k,) labels.

        They are slips, or galaxies on the border. None before `FEW` of each kind: then a single answer carries much.
        """
        if self.kernel is None or min(self.wanted.sum(), (~self.wanted).sum()) < FEW:
            return self.rows[:0], self.wanted[:0]
        agrees = np.where(self.wanted, self.kernel.unseen, -self.kernel.unseen)
        order = np.argsort(agrees, kind="stable")
        order = order[agrees[order] < -CLEAR]
        return self.rows[order], self.wanted[order]

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self.kernel is not None
        return self.kernel.vectors(self.features[rows])

    def _shown(self) -> Shown:
        asked = np.array([reason != EXAMPLE for reason in self.reasons], bool)
        chance = np.array([reason == "random" for reason in self.reasons], bool)
        return Shown(int(asked.sum()), int(self.wanted[asked].sum()), int(chance.sum()), int(self.wanted[chance].sum()))

    def to_dict(self) -> dict[str, Any]:
        """The linear part as JSON values: enough to score other features that were standardised alike."""
        return self.linear.to_dict()

    @classmethod
    def from_dict(cls, content: dict[str, Any], features: NDArray[np.float32]) -> Preference:
        """The learner of `to_dict` before other features; it scores them and knows no label of theirs."""
        none = np.zeros(0, np.int64)
        return cls(features, none, none.astype(bool), (), LinearPreference.from_dict(content), None, UNCALIBRATED)


def standardise(features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread (D,) of the finite rows of (N, D) features, block by block; a constant column has spread 1."""
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(features), BLOCK):
        part = np.asarray(features[start : start + BLOCK], np.float64)
        part = part[np.isfinite(part).all(axis=1)]
        count, total, squares = count + len(part), total + part.sum(axis=0), squares + (part**2).sum(axis=0)
    if not count:
        raise ValueError(f"none of the {len(features)} rows has finite features; nothing can be learnt from them")
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    constant = variance <= 1e-12 * np.maximum(mean**2, 1)
    spread = np.where(constant, 1, np.sqrt(np.where(constant, 1, variance)))
    return np.asarray(mean, np.float32), np.asarray(spread, np.float32)


def first_sheet(features: NDArray[np.float32], count: int, seed: int) -> Sheet:
    """Random rows that have features, for a start without examples."""
    generator = np.random.default_rng((seed, 0))
    rows: list[int] = []
    for row in generator.permutation(len(features)):
        if len(rows) == count:
            break
        if np.isfinite(features[row]).all():
            rows.append(int(row))
    return Sheet(np.array(rows, np.int64), ("random",) * len(rows))


def agreement(first: NDArray[np.bool_] | Sequence[bool], second: NDArray[np.bool_] | Sequence[bool]) -> float:
    """Cohen's kappa of two people's labels on the rows that both labelled: 1 alike, 0 as chance would have it.

    NaN for no rows. Where both gave one same answer to all, chance alone would agree as well: kappa is then 1 by
    convention.
    """
    one, two = np.asarray(first, bool), np.asarray(second, bool)
    if not len(one):
        return float("nan")
    observed = float((one == two).mean())
    chance = float(one.mean() * two.mean() + (1 - one.mean()) * (1 - two.mean()))
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def _labels(
    features: NDArray[np.float32],
    rows: NDArray[np.int64] | Sequence[int],
    wanted: NDArray[np.bool_] | Sequence[bool],
    reasons: Sequence[str] | None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_], tuple[str, ...]]:
    """The answers by rising row, checked."""
    where, answers = np.asarray(rows, np.int64), np.asarray(wanted, bool)
    why = np.asarray([EXAMPLE] * len(where) if reasons is None else list(reasons), object)
    if not len(where) or where.shape != answers.shape or where.shape != why.shape:
        raise ValueError(
            f"{len(where)} rows, {len(answers)} labels, {len(why)} reasons; give one of each, for 1 or more"
        )
    order = np.argsort(where, kind="stable")
    where, answers = where[order], answers[order]
    twice = where[1:][np.diff(where) == 0]
    if len(twice):
        raise ValueError(f"row {twice[0]} is labelled twice; give each row once")
    if where[0] < 0 or where[-1] >= len(features):
        raise ValueError(
            f"rows {where[0]} to {where[-1]} are labelled; the features have rows 0 to {len(features) - 1}"
        )
    bare = where[~np.isfinite(features[where]).all(axis=1)]
    if len(bare):
        raise ValueError(f"row {bare[0]} is labelled and has no features; leave it out")
    return where, answers, tuple(str(reason) for reason in why[order])


def _presumed_negatives(features: NDArray[np.float32], labelled: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Random rows that nobody has labelled and that have features; at most `PRESUMED`, the same for the same seed."""
    generator = np.random.default_rng((seed, 1))
    drawn = generator.choice(len(features), min(len(features), 2 * PRESUMED), replace=False)
    free = drawn[~np.isin(drawn, labelled)]
    free = free[np.isfinite(features[free]).all(axis=1)]
    return np.sort(free[:PRESUMED])
