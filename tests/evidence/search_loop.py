"""A search by a scripted annotator, who answers from real labels, and what came of it round by round.

Rows that somebody has labelled count in no precision, which is capped by the members that are left: hits among the 50
best of the rows left, over 50 or over the members left where those are fewer. A strategy that finds more leaves fewer
members, and harder ones, so that this precision alone favours who finds little: asking at random leaves the easy ones
for last. `harvest` adds both up: members found and those among the next 50, of what so many looks could bring at best.
And where half of the galaxies are held out, never shown, all strategies are judged by the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from galaxy_models.metrics import auc
from galaxy_models.preference import standardise
from tests.evidence.search_strategies import NOBODY, Answers, Floats, Rows, Strategy

EXAMPLES, ROUNDS, TOP = 3, 10, 50


@dataclass(frozen=True)
class Curve:
    """One search; entry 0 is after the examples, before the first sheet.

    Attributes
    ----------
    labels
        Rows answered, the examples among them.
    found, possible
        Share of the members answered with yes, and what it could have been with so many labels.
    precision
        Of the best `TOP` judged rows: those without a label, or those held out. NaN where no member is among them.
    harvest
        Members found and those among the best `TOP`, as a share of what so many rows could hold.
    auc
        Of the judged rows; NaN unless both kinds are among them.
    """

    labels: list[int]
    found: list[float]
    possible: list[float]
    precision: list[float]
    harvest: list[float]
    auc: list[float]

    @property
    def area(self) -> float:
        """Mean over the sheets of what was found, as a share of what could have been."""
        return float(np.mean(np.divide(self.found[1:], self.possible[1:])))

    def figures(self) -> dict[str, float]:
        """After the last round, and the area."""
        return {
            "precision": self.precision[-1],
            "harvest": self.harvest[-1],
            "found": self.found[-1],
            "area": self.area,
        }

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON values."""
        return asdict(self)


def search(
    features: Floats,
    wanted: NDArray[np.bool_],
    strategy: Strategy,
    seed: int,
    *,
    error: float = 0.0,
    held_out: Rows = NOBODY,
) -> Curve:
    """Search once.

    Parameters
    ----------
    features
        (N, D) of the pool, as they come; they are standardised here.
    wanted
        (N,) the truth.
    seed
        Chooses the examples, and when the annotator errs.
    error
        Share of the answers that are wrong. Examples are right.
    held_out
        Rows that are never shown, and judge what was learnt in place of those that have no label.
    """
    mean, spread = standardise(features)
    table = np.asarray((features - mean) / spread, np.float32)
    generator = np.random.default_rng((seed, 7))
    shown_ever = np.setdiff1d(np.arange(len(wanted)), held_out)
    members = int(wanted[shown_ever].sum())
    rows = generator.choice(shown_ever[wanted[shown_ever]], EXAMPLES, replace=False)
    answers = Answers(rows, np.ones(EXAMPLES, bool), ("example",) * EXAMPLES, held_out)
    curve = Curve([], [], [], [], [], [])
    for number in range(ROUNDS + 1):
        scores, sheet, reasons = strategy(table, answers, seed)
        judged = held_out if len(held_out) else np.setdiff1d(shown_ever, answers.rows)
        _add(curve, scores, wanted, answers, judged, members)
        if number < ROUNDS and len(sheet):
            answers = answered(answers, sheet, reasons, wanted, error, generator)
    return curve


def answered(
    answers: Answers,
    sheet: Rows,
    reasons: Sequence[str],
    wanted: NDArray[np.bool_],
    error: float,
    generator: np.random.Generator,
) -> Answers:
    """The answers with those to a sheet, of which a share is wrong."""
    said = wanted[sheet] ^ (generator.random(len(sheet)) < error)
    return Answers(
        np.concatenate([answers.rows, sheet]),
        np.concatenate([answers.wanted, said]),
        (*answers.reasons, *reasons[: len(sheet)]),
        answers.barred,
    )


def _add(curve: Curve, scores: Floats, wanted: NDArray[np.bool_], answers: Answers, judged: Rows, members: int) -> None:
    """What the scores and the answers of one round are worth."""
    yes = int((answers.wanted & wanted[answers.rows]).sum())
    hits, left = hits_of(scores, wanted, judged)
    looked = min(members, len(answers.rows))
    curve.labels.append(len(answers.rows))
    curve.found.append(yes / members)
    curve.possible.append(looked / members)
    curve.precision.append(hits / min(TOP, left) if left else float("nan"))
    curve.harvest.append((yes + hits) / min(members, len(answers.rows) + TOP))
    curve.auc.append(auc(wanted[judged], scores[judged]) if 0 < left < len(judged) else float("nan"))


def hits_of(scores: Floats, wanted: NDArray[np.bool_], judged: Rows) -> tuple[int, int]:
    """Members among the best `TOP` of the judged rows, and among all of them."""
    best = judged[np.argsort(-scores[judged], kind="stable")[:TOP]]
    return int(wanted[best].sum()), int(wanted[judged].sum())


def halves(count: int, groups: NDArray[np.int64], seed: int) -> tuple[Rows, Rows]:
    """Rows to search and rows held out, about as many; near-duplicates of one group (-1 for none) stay together."""
    generator = np.random.default_rng((seed, 11))
    own = np.where(groups < 0, np.arange(count) + groups.max(initial=0) + 1, groups)
    names, of = np.unique(own, return_inverse=True)
    side = generator.permutation(np.arange(len(names)) % 2)[of]
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def paired_interval(first_: Floats, second: Floats, draws: int = 4000) -> tuple[float, float, float]:
    """Mean of `first_` - `second` over targets and seeds (T, S), and its 95 % bootstrap interval over seeds.

    Targets are fixed: they are those that are asked for. Each keeps its own resampling of its seeds.
    """
    difference = np.asarray(first_ - second)
    picks = np.random.default_rng(0).integers(difference.shape[1], size=(draws, *difference.shape))
    means = np.nanmean(np.take_along_axis(difference[None], picks, axis=2), axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.nanmean(difference)), float(low), float(high)


def mean_curve(curves: Sequence[Mapping[str, Sequence[float]]], what: str) -> NDArray[np.float64]:
    """(R + 1,) mean over searches of one of `Curve`'s lists."""
    return np.asarray(np.nanmean([each[what] for each in curves], axis=0), np.float64)
