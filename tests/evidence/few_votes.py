"""How well volunteers' vote fractions are told from the votes of few galaxies, of all galaxies that have votes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from galaxy_models.metrics import bootstrap_interval
from tests.evidence.classifiers import Rows
from tests.evidence.cross_fit import SOURCE, THREADS, CrossFit, encoder_rate, opened, recipe_at, seed_of
from tests.evidence.cross_fit_sizes import MEAN, OWN_FOREST, PRETRAINED, UNTRAINED
from tests.evidence.handmade import own_measures
from tests.evidence.processes import in_processes
from tests.evidence.stamps import FOLDS
from tests.evidence.vote_networks import (
    TOLD,
    OurVotes,
    Votes,
    VotesFromScratch,
    error_of,
    survey_votes,
    told_fractions,
    told_without_votes,
    train_votes,
)
from tests.evidence.workbench import Workbench

Wanted = tuple[str, int, int, int]
"""Model, labels a class, fold, draw."""


def measure_votes(bench: Workbench, measurement: CrossFit) -> None:
    """Measure what is not kept yet, and write the table."""
    fit = VoteFit(measurement)
    wanted = fit.wanted()
    measurement.pretrain({each[0] for each in wanted if not fit.has(each)})
    in_processes(THREADS, bench, _opened, VoteFit.answers, wanted)
    names = [name for name, _ in fit.votes.questions]
    shared = [names.index(name) for name in names if name in TOLD]
    size = measurement.size
    counts = sorted({count for counts in size.votes.values() for count in counts})
    rows = []
    for name, known in size.votes.items():
        squares = {count: fit.squares(name, count) for count in known}
        of_shared = [_with_interval(squares[count][:, shared]) if count in known else "" for count in counts]
        of_all = [_with_interval(squares[count]) if count in known else "" for count in counts if count]
        rows.append([name, *of_shared, *of_all])
    head = [
        "",
        *(f"{len(shared)} questions, {count} a class" for count in counts),
        *(f"all {len(names)}, {count} a class" for count in counts if count),
    ]
    tested = np.concatenate([fit.asked(fold) for fold in size.tested])
    draws = f"{size.draws} draw{'s' if size.draws > 1 else ''}"
    remark = (
        "Root-mean-square error of the fractions of each question's own votes, mean over questions, as fine-tuning "
        f"scores them; lower is better. Asked of all {len(tested)} galaxies of Galaxy Zoo 2 with votes in folds "
        f"{', '.join(map(str, size.tested))}; learnt from the votes of the galaxies, of clear classes, that the tables "
        f"above have as labels, {draws} each, with the rates chosen for the classes; 95 % bootstrap intervals over "
        f"test galaxies. Where no vote was learnt from, it is what the pre-trained network tells: {len(shared)} "
        f"questions ({', '.join(names[place] for place in shared)})."
    )
    bench.table("Error of vote fractions from few labels", head, rows, remark)


class VoteFit:
    """Models that learn votes, on the folds and draws of the classes."""

    def __init__(self, measurement: CrossFit, votes: Votes | None = None) -> None:
        self.measurement = measurement
        self.votes = survey_votes(measurement.stamps) if votes is None else votes

    def wanted(self) -> list[Wanted]:
        """All that is measured, the longest first."""
        size = self.measurement.size
        tasks = [(name, count) for name, counts in size.votes.items() for count in counts]
        tasks.sort(key=lambda task: (task[0] in (OWN_FOREST, MEAN), -task[1]))
        draws = self.measurement.draws
        return [(*task, fold, draw) for task in tasks for fold in size.tested for draw in range(draws(task[1]))]

    def has(self, wanted: Wanted) -> bool:
        """Whether it was measured before."""
        return self.measurement.bench.keeps(**self._key(*wanted))

    def answers(self, wanted: Wanted) -> dict[str, Any]:
        """Squared errors of the test fold's galaxies, (n, questions), by a model that learnt from so many labels."""
        return self.measurement.bench.cell(lambda: self._measured(*wanted), **self._key(*wanted))

    def squares(self, name: str, per_class: int) -> NDArray[np.float64]:
        """The same of all test folds, one below the other, mean over draws."""
        measurement = self.measurement
        folds = [
            np.mean([self.answers((name, per_class, fold, draw))["squares"] for draw in range(draws)], axis=0)
            for fold in measurement.size.tested
            for draws in [measurement.draws(per_class)]
        ]
        return np.concatenate(folds).astype(np.float64)

    def asked(self, fold: int) -> Rows:
        """All galaxies of a fold that have votes, whether or not their class is clear."""
        return self.votes.of(np.flatnonzero(self.measurement.fold_of == fold))

    def learnt(self, per_class: int, fold: int, draw: int) -> Rows:
        """The galaxies whose class is learnt where classes are told from so many labels."""
        parts = self.measurement.parts(self.measurement.five, fold)
        return self.votes.of(parts.train.few(per_class, seed_of(fold, draw)).rows)

    def _key(self, name: str, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        key = {"asked": "votes", "of": SOURCE, "model": name, "labels": per_class, "fold": fold, "draw": draw}
        if name in (OWN_FOREST, MEAN):
            return key
        return {**key, "rate": self.measurement.rate(name), **self.measurement.made_by(name)}

    def _measured(self, name: str, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        asked, learnt = self.asked(fold), self.learnt(per_class, fold, draw)
        if name == MEAN:
            told = self._mean(learnt, len(asked))
        elif name == OWN_FOREST:
            told = self._forest(learnt, asked, seed_of(fold, draw))
        elif per_class:
            told = self._trained(name, learnt, asked, fold, draw)
        else:
            network = self._network(name, fold, draw)
            assert isinstance(network, OurVotes)
            told = told_without_votes(network.network.lvm, self.measurement.stamps, asked)
        return {"squares": self.votes.squares(asked, told).round(6).tolist()}

    def _network(self, name: str, fold: int, draw: int) -> OurVotes | VotesFromScratch:
        measurement, questions, seed = self.measurement, self.votes.questions, seed_of(fold, draw)
        if name in (*PRETRAINED, UNTRAINED):
            lvm = measurement.lvm(name, fold, seed)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                return OurVotes(lvm, questions, encoder_rate(name))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return VotesFromScratch(name, questions, *measurement.colours(fold))

    def _trained(self, name: str, learnt: Rows, asked: Rows, fold: int, draw: int) -> dict[str, NDArray[np.float64]]:
        stamps, validation = self.measurement.stamps, self.asked((fold + 1) % FOLDS)
        recipe, seed = recipe_at(self.measurement.rate(name)), seed_of(fold, draw)
        network = self._network(name, fold, draw)
        train_votes(network, stamps, self.votes, learnt, validation, recipe, seed)
        return told_fractions(network, stamps, asked)

    def _mean(self, learnt: Rows, count: int) -> dict[str, NDArray[np.float64]]:
        """What tells best of the galaxies learnt from if one looks at none."""
        return {
            name: np.tile(np.nanmean(values[learnt], axis=0), (count, 1))
            for name, values in self.votes.fractions.items()
            if np.isfinite(values[learnt]).any()
        }

    def _forest(self, learnt: Rows, asked: Rows, seed: int) -> dict[str, NDArray[np.float64]]:
        """One for each question, of the galaxies that were asked it, as much as they were."""
        known, features = own_measures(self.measurement.stamps, learnt), own_measures(self.measurement.stamps, asked)
        told = {}
        for name, values in self.votes.fractions.items():
            of = np.isfinite(values[learnt]).all(axis=1)
            if of.any():
                forest = RandomForestRegressor(500, min_samples_leaf=2, random_state=seed)
                forest.fit(known[of], values[learnt[of]], sample_weight=self.votes.votes[name][learnt[of]])
                told[name] = forest.predict(features)
        return told


def _with_interval(squares: NDArray[np.float64]) -> str:
    low, high = bootstrap_interval(error_of, squares, seed=0, draws=300)
    return f"{error_of(squares):.3f} ({low:.3f} to {high:.3f})"


def _opened(bench: Workbench) -> VoteFit:
    return VoteFit(opened(bench))
