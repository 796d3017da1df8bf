"""How fast a search finds its kind of galaxy: a scripted annotator answers from real labels.

`python -m tests.evidence.preference FILE.npz [SEEDS]` reads `features` (N, D) and, of every other name, one target:
(N,) 1 for wanted, 0 for not, -1 for a row that is not in the target's pool (another source's galaxies, say). Rows that
somebody has labelled count in no precision: `found` is the share of the members answered with yes so far, and
`precision` counts the members among the 50 best of the rows left, over 50 or over the members left where those are
fewer. A strategy that finds more leaves fewer, and harder ones, so that precision alone favours who finds little:
asking at random leaves the easy ones for last. `harvest` adds both up: what was found and what those 50 would bring, of
what so many looks could bring at best. Where no member is left there is no precision.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galaxy_models.preference import Preference, standardise

EXAMPLES, ROUNDS, SHEET, TOP = 3, 10, 16, 50
COMPONENTS = 16
"""Principal components that the Gaussian process sees, as Protege's does not see all features either."""

Rows = NDArray[np.int64]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Answers:
    """What the annotator has said so far, in the order of asking."""

    rows: Rows
    wanted: NDArray[np.bool_]
    reasons: tuple[str, ...]


Strategy = Callable[[Floats, Answers, int], tuple[Floats, Rows, Sequence[str]]]
"""(features, answers, seed) to a score of every row, the next sheet, and the reason of each of its rows."""


@dataclass(frozen=True)
class Curves:
    """One number per seed and round; column 0 is after the examples, before the first sheet.

    Attributes
    ----------
    found, possible
        (S, R + 1) share of the members found, and what could have been found with so many labels.
    precision
        (S, R + 1) of the best `TOP` rows without a label; NaN where no member is left.
    harvest
        (S, R + 1) members found and among those, as a share of what so many rows could hold.
    """

    found: Floats
    possible: Floats
    precision: Floats
    harvest: Floats

    @property
    def area(self) -> Floats:
        """(S,) mean over the sheets of what was found, as a share of what could have been."""
        return np.asarray((self.found[:, 1:] / self.possible[:, 1:]).mean(axis=1))


def ours(features: Floats, answers: Answers, seed: int) -> tuple[Floats, Rows, Sequence[str]]:
    """The project's learner."""
    learnt = Preference.learn(features, answers.rows, answers.wanted, reasons=answers.reasons, seed=seed)
    sheet = learnt.propose(SHEET)
    return learnt.probabilities(), sheet.rows, sheet.reasons


def uncertainty(features: Floats, answers: Answers, seed: int) -> tuple[Floats, Rows, Sequence[str]]:
    """The same learner, asking only about what it is least sure of."""
    learnt = Preference.learn(features, answers.rows, answers.wanted, reasons=answers.reasons, seed=seed)
    probabilities = learnt.probabilities()
    return probabilities, _first(-np.abs(probabilities - 0.5), answers.rows), ["uncertain"] * SHEET


def random(features: Floats, answers: Answers, seed: int) -> tuple[Floats, Rows, Sequence[str]]:
    """The same learner, asking about anything."""
    learnt = Preference.learn(features, answers.rows, answers.wanted, reasons=answers.reasons, seed=seed)
    chance = np.random.default_rng((seed, len(answers.rows))).random(len(features))
    return learnt.probabilities(), _first(chance, answers.rows), ["random"] * SHEET


def nearest(features: Floats, answers: Answers, seed: int) -> tuple[Floats, Rows, Sequence[str]]:
    """Plain nearest neighbour: by the distance to the nearest row that was answered with yes."""
    from scipy.spatial.distance import cdist

    near = -cdist(features, features[answers.rows[answers.wanted]]).min(axis=1)
    return near, _first(near, answers.rows), ["best"] * SHEET


def gaussian_process(features: Floats, answers: Answers, seed: int) -> tuple[Floats, Rows, Sequence[str]]:
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
    return mean, _first(improvement, answers.rows), ["best"] * SHEET


STRATEGIES: Mapping[str, Strategy] = {
    "ours": ours,
    "random": random,
    "nearest neighbour": nearest,
    "uncertainty only": uncertainty,
    "gaussian process": gaussian_process,
}


def run(
    features: Floats, wanted: NDArray[np.bool_], strategy: Strategy, seeds: Iterable[int], *, error: float = 0.0
) -> Curves:
    """Search with every seed, which chooses the examples.

    Parameters
    ----------
    features
        (N, D) of the pool, as they come; they are standardised here.
    wanted
        (N,) the truth.
    error
        Share of the answers that are wrong. Examples are right.
    """
    mean, spread = standardise(features)
    table = np.asarray((features - mean) / spread, np.float32)
    curves = [_search(table, wanted, strategy, seed, error) for seed in seeds]
    return Curves(*(np.array([curve[i] for curve in curves]) for i in range(4)))


def _search(
    features: Floats, wanted: NDArray[np.bool_], strategy: Strategy, seed: int, error: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    generator = np.random.default_rng((seed, 7))
    members = int(wanted.sum())
    rows = generator.choice(np.flatnonzero(wanted), EXAMPLES, replace=False)
    answers = Answers(rows, np.ones(EXAMPLES, bool), ("example",) * EXAMPLES)
    found, possible, precision, harvest = [], [], [], []
    for sheet in range(ROUNDS + 1):
        scores, shown, reasons = strategy(features, answers, seed)
        yes = int((answers.wanted & wanted[answers.rows]).sum())
        found.append(yes / members)
        possible.append(min(members, len(answers.rows)) / members)
        hits = int(wanted[_first(scores, answers.rows, TOP)].sum())
        left = members - int(wanted[answers.rows].sum())
        precision.append(hits / min(TOP, left) if left else float("nan"))
        harvest.append((yes + hits) / min(members, len(answers.rows) + TOP))
        if sheet == ROUNDS or not len(shown):
            continue
        said = wanted[shown] ^ (generator.random(len(shown)) < error)
        answers = Answers(
            np.concatenate([answers.rows, shown]),
            np.concatenate([answers.wanted, said]),
            (*answers.reasons, *reasons[: len(shown)]),
        )
    return found, possible, precision, harvest


def _first(scores: Floats, labelled: Rows, count: int = SHEET) -> Rows:
    """The highest scores without a label; equal ones by row."""
    free = np.setdiff1d(np.arange(len(scores)), labelled)
    return free[np.argsort(-scores[free], kind="stable")[:count]]


MEASURES: Mapping[str, Callable[[Curves], Floats]] = {
    "precision_top50": lambda curves: curves.precision[:, -1],
    "harvest": lambda curves: curves.harvest[:, -1],
    "area": lambda curves: curves.area,
}
"""Figures of a search after its last round, by seed."""


def paired_interval(first: Floats, second: Floats, draws: int = 4000) -> tuple[float, float, float]:
    """Mean of `first` - `second` over targets and seeds (T, S), and its 95 % bootstrap interval over seeds.

    Targets are fixed: they are those that are asked for. Each keeps its own resampling of its seeds.
    """
    difference = np.asarray(first - second)
    generator = np.random.default_rng(0)
    picks = generator.integers(difference.shape[1], size=(draws, *difference.shape))
    means = np.nanmean(np.take_along_axis(difference[None], picks, axis=2), axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.nanmean(difference)), float(low), float(high)


def compare(
    features: Floats, targets: Mapping[str, NDArray[np.int64]], seeds: Sequence[int], error: float = 0.0
) -> dict[str, dict[str, Curves]]:
    """Strategy to target to curves."""
    return {
        name: {
            target: run(features[labels >= 0], labels[labels >= 0] == 1, strategy, seeds, error=error)
            for target, labels in targets.items()
        }
        for name, strategy in STRATEGIES.items()
    }


def report(results: Mapping[str, Mapping[str, Curves]], members: Mapping[str, int], error: float) -> None:
    """One JSON line per strategy and target, and one per strategy over the targets with at least 100 members."""
    large = [target for target, count in members.items() if count >= 100]
    for name, curves in results.items():
        for target, curve in curves.items():
            line = {
                "error": error, "strategy": name, "target": target, "members": members[target],
                "found": np.round(curve.found.mean(axis=0), 3).tolist(),
                "precision_top50": np.round(np.nanmean(curve.precision, axis=0), 3).tolist(),
                "harvest": np.round(curve.harvest.mean(axis=0), 3).tolist(),
                "area": round(float(curve.area.mean()), 4),
            }  # fmt: skip
            print(json.dumps(line), flush=True)
    if not large:
        return
    for name, curves in results.items():
        line = {"error": error, "strategy": name, "targets": len(large)}
        for what, value in MEASURES.items():
            mine = np.array([value(results["ours"][target]) for target in large])
            theirs = np.array([value(curves[target]) for target in large])
            line[what] = round(float(np.nanmean(theirs)), 4)
            line[f"{what}_of_ours_above"] = [round(number, 4) for number in paired_interval(mine, theirs)]
        print(json.dumps(line), flush=True)


def main(path: Path, seeds: int = 10) -> None:
    """Compare all strategies, with an annotator who never errs and with one who errs in 5 % of the answers."""
    content = np.load(path)
    features = content["features"]
    targets = {name: content[name] for name in content.files if name != "features"}
    members = {name: int((labels == 1).sum()) for name, labels in targets.items()}
    for error in (0.0, 0.05):
        report(compare(features, targets, range(seeds), error), members, error)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
