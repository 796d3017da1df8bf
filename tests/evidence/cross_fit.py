"""Classifiers from few labels on Galaxy Zoo 2's clear cases, trained and asked so that no answer was seen before.

Every labelled galaxy is in one of five folds, near-duplicates in the same. A test fold is seen by nobody: not by the
pre-training, which takes the stamps alone, not by the training, and not by the choice of rates and of the best look,
which is made on the fold after it. Galaxies of that one count as no labels, for any network: all have the same.

But for the full size, the last two folds are tested, or one of them. While network, pre-training and simulator were
made, results on the first three were looked at; the others were left aside, but for what runs report of the survey's
own split.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from galaxy_models.lvm import GalaxyLVM
from tests.evidence.classifiers import (
    HALFWAY,
    LAST,
    FromScratch,
    Labelled,
    OurClassifier,
    Recipe,
    Rows,
    probabilities,
    train,
)
from tests.evidence.cross_fit_sizes import (
    ALIKE,
    BACKBONE,
    CHOSEN_AT,
    FOREST,
    FORESTS,
    NETWORKS,
    OWN_FOREST,
    PRETRAINED,
    SIZES,
    UNTRAINED,
    Size,
)
from tests.evidence.handmade import own_measures, statmorph_features
from tests.evidence.pretrained import Pretraining, network_input, pretrained, untrained
from tests.evidence.processes import in_processes
from tests.evidence.simulated import simulator_digest
from tests.evidence.stamps import FOLDS, Stamps, folds, real_stamps
from tests.evidence.workbench import Workbench

SOURCE = "gz2"

FIVE = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral")
FIVE_SCORED = (0, 1, 3, 4)
"""There are 22 cigars, four or five in a fold: they are among the others of every class, and told apart."""

FOUR = ("elliptical", "edge_on", "spiral", "other")

THREADS = 2
"""Of the pre-training, and processes of one thread each of all that follows: small networks fill one thread better."""


@dataclass(frozen=True)
class Scheme:
    """Classes of the labelled rows."""

    name: str
    classes: tuple[str, ...]
    scored: tuple[int, ...]
    labelled: Labelled


@dataclass(frozen=True)
class Parts:
    """Of one scheme, for one test fold."""

    train: Labelled
    validation: Labelled
    test: Labelled


Wanted = tuple[str, str, int, int, int]
"""Model, scheme, labels a class, fold, draw."""

Candidate = tuple[str, float]
"""Network and learning rate."""


class CrossFit:
    """Folds, schemes and networks, with the stamps at hand."""

    def __init__(self, bench: Workbench, stamps: Stamps, size: Size) -> None:
        self.bench = bench
        self.stamps = stamps
        self.size = size
        rows = stamps.rows(SOURCE)
        self.fold_of = np.full(len(stamps.table), -1)
        self.fold_of[rows] = folds(stamps, rows, five_codes(stamps)[rows])
        self.five = Scheme("five", FIVE, FIVE_SCORED, labelled(five_codes(stamps)))
        self.four = Scheme("four", FOUR, tuple(range(len(FOUR))), labelled(four_codes(stamps)))

    def wanted(self) -> list[Wanted]:
        """All that is measured, the longest first."""
        size = self.size
        tasks = [(name, "five", count) for name, counts in size.labels.items() for count in counts]
        tasks += [(name, "four", CHOSEN_AT) for name in size.of_four]
        tasks.sort(key=lambda task: (task[0] in FORESTS, task[0] == "resnet50", -task[2]))
        return [(*task, fold, draw) for task in tasks for fold in size.tested for draw in range(self.draws(task[2]))]

    def candidates(self) -> list[Candidate]:
        """All learning rates that are tried, of networks that have a choice; the slowest networks first."""
        found = [(name, rate) for name, rates in self.size.rates.items() if len(rates) > 1 for rate in rates]
        return sorted(found, key=lambda each: -NETWORKS.index(each[0]))

    def draws(self, per_class: int) -> int:
        """Draws of so many labels; of none there is one."""
        return self.size.draws if per_class else 1

    def prepare(self) -> None:
        """What all processes read, unless nothing lacks that needs it: pre-trained networks, statmorph's features."""
        rates_known = all(self._keeps(name, self.five, rate=rate) for name, rate in self.candidates())
        lacking = {wanted[0] for wanted in self.wanted() if not (rates_known and self.has(wanted))}
        self.pretrain(lacking)
        if FOREST in lacking:
            statmorph_features(self.bench, self.stamps, self.five.labelled.rows, THREADS)

    def pretrain(self, names: Collection[str]) -> None:
        """Those of the networks that are pre-trained; what was trained before is taken up."""
        for name in PRETRAINED:
            for fold in self.size.tested if name in names else ():
                self.lvm(name, fold, 0)

    def has(self, wanted: Wanted) -> bool:
        """Whether it was measured before; rates must have been chosen."""
        name, scheme, per_class, fold, draw = wanted
        rate = None if name in FORESTS else self.rate(name)
        return self._keeps(name, self.scheme(scheme), per_class, fold, draw, rate)

    def scheme(self, name: str) -> Scheme:
        """Of this name."""
        return {each.name: each for each in (self.five, self.four)}[name]

    def parts(self, scheme: Scheme, fold: int) -> Parts:
        """The test fold, the one after it for choices, the other three for training."""
        of = self.fold_of[scheme.labelled.rows]
        test, validation = of == fold, of == (fold + 1) % FOLDS
        return Parts(*(_chosen(scheme.labelled, each) for each in (~test & ~validation, validation, test)))

    def unlabelled(self, fold: int) -> Rows:
        """What pre-training may see: train stamps of other sources, and of this one all that no test fold has."""
        tested = [fold] if self.size.pretraining_per_fold else self.size.tested
        other = (self.stamps.table["source"] != SOURCE) & (self.stamps.table["split"] == "train")
        own = (self.fold_of >= 0) & ~np.isin(self.fold_of, tested)
        return np.flatnonzero(other.to_numpy() | own)

    def network(self, name: str, classes: Sequence[str], fold: int, seed: int) -> nn.Module:
        """A classifier that has seen no label."""
        ours = name in (*PRETRAINED, UNTRAINED)
        lvm = self.lvm(name, fold, seed) if ours else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if lvm is not None:
                return OurClassifier(lvm, classes, encoder_rate(name))
            return FromScratch(name, classes, *self.colours(fold))

    def lvm(self, name: str, fold: int, seed: int) -> GalaxyLVM:
        """The encoder of one of our networks, pre-trained or with its first weights."""
        rows = self.unlabelled(fold)
        if name in PRETRAINED:
            return pretrained(self.bench, self.stamps, rows, self._pretraining(name), THREADS)
        return untrained(self.stamps, rows, self.size.pretraining.preset, seed)

    def colours(self, fold: int) -> tuple[Tensor, Tensor]:
        """Mean and spread (3,) of what networks see of some unlabelled stamps."""
        rows = self.unlabelled(fold)
        sample = network_input(self.stamps, rows[:: max(1, len(rows) // 1024)])
        return sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3))

    def answers(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        """Probabilities of the test fold by a classifier that was trained on `per_class` labels a class.

        With no labels at all: what the pre-trained network tells of the classes by itself.
        """
        if name in FORESTS:
            key = self._key(name, scheme, per_class, fold, draw, None)
            return self.bench.cell(lambda: self._forest(name, scheme, per_class, fold, draw), **key)
        return self.answers_at(self.rate(name), name, scheme, per_class, fold, draw)

    def answers_at(
        self, rate: float, name: str, scheme: Scheme, per_class: int, fold: int, draw: int
    ) -> dict[str, Any]:
        """The same of a network at a learning rate, with the `validation` score of its best look."""
        key = self._key(name, scheme, per_class, fold, draw, rate)
        return self.bench.cell(lambda: self._trained(name, scheme, per_class, fold, draw, rate), **key)

    def rate(self, name: str) -> float:
        """The learning rate, chosen once by the validation galaxies of the first tested fold."""
        candidates = self.size.rates[name]
        if len(candidates) == 1:
            return candidates[0]
        return max(candidates, key=lambda rate: self.tried(name, rate))

    def tried(self, name: str, rate: float) -> float:
        """Macro AUC of validation galaxies, where rates are chosen."""
        answers = self.answers_at(rate, name, self.five, CHOSEN_AT, self.size.tested[0], 0)
        return float(answers["validation"])

    def made_by(self, name: str) -> dict[str, Any]:
        """What a network's answers depend on beside the rate: JSON values."""
        if name not in PRETRAINED:
            return {}
        each = " for each fold" if self.size.pretraining_per_fold else ""
        return {"pretraining": f"{self._pretraining(name)}{each}", "simulator": simulator_digest()}

    def _key(
        self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float | None
    ) -> dict[str, Any]:
        key = {"model": name, "scheme": scheme.name, "labels": per_class, "fold": fold, "draw": draw}
        if rate is None:
            return key
        considers = considered(name) if per_class else LAST
        looks = {} if considers == LAST else {"looks": list(considers)}
        return {**key, "rate": rate, **looks, **self.made_by(name)}

    def _keeps(
        self,
        name: str,
        scheme: Scheme,
        per_class: int = CHOSEN_AT,
        fold: int | None = None,
        draw: int = 0,
        rate: float | None = None,
    ) -> bool:
        fold = self.size.tested[0] if fold is None else fold
        return self.bench.keeps(**self._key(name, scheme, per_class, fold, draw, rate))

    def _pretraining(self, name: str) -> Pretraining:
        how = self.size.pretraining
        return replace(how, preset=BACKBONE) if name == ALIKE else how

    def _train(
        self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float
    ) -> tuple[nn.Module, float]:
        parts, seed = self.parts(scheme, fold), seed_of(fold, draw)
        classifier = self.network(name, scheme.classes, fold, seed)
        few = parts.train.few(per_class, seed)
        recipe = recipe_at(rate, considered(name))
        return classifier, train(classifier, self.stamps, few, parts.validation, recipe, seed)

    def _trained(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float) -> dict[str, Any]:
        if per_class:
            classifier, score = self._train(name, scheme, per_class, fold, draw, rate)
        else:
            classifier, score = self.network(name, scheme.classes, fold, seed_of(fold, draw)), None
        test = self.parts(scheme, fold).test
        return {"validation": score, **_kept(test.codes, probabilities(classifier, self.stamps, test.rows))}

    def _forest(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        parts, seed = self.parts(scheme, fold), seed_of(fold, draw)
        few = parts.train.few(per_class, seed)
        features = self._features(name)
        forest = RandomForestClassifier(500, min_samples_leaf=2, class_weight="balanced", random_state=seed)
        forest.fit(features(few.rows), few.codes)
        return _kept(parts.test.codes, forest.predict_proba(features(parts.test.rows)))

    def _features(self, name: str) -> Callable[[Rows], NDArray[np.float64]]:
        if name == OWN_FOREST:
            return lambda rows: own_measures(self.stamps, rows)
        return lambda rows: statmorph_features(self.bench, self.stamps, rows, THREADS)


def opened(bench: Workbench) -> CrossFit:
    """That of the bench's size."""
    return CrossFit(bench, real_stamps(), SIZES[bench.size])


def measure_in_processes(bench: Workbench, measurement: CrossFit) -> None:
    """Measure all that is not kept yet: first what rates are chosen by."""
    in_processes(THREADS, bench, opened, _measure_candidate, measurement.candidates())
    in_processes(THREADS, bench, opened, _measure_one, measurement.wanted())


def seed_of(fold: int, draw: int) -> int:
    """Of the labels that are drawn, and of the training on them."""
    return 100 * fold + draw


def encoder_rate(name: str) -> float:
    """Learning rate of our network's encoder, in units of the head's: what was pre-trained learns slower."""
    return 0.25 if name in PRETRAINED else 1.0


def considered(name: str) -> tuple[float, ...]:
    """By looks at a network that learns classes: those that were pre-trained could tell them before."""
    return HALFWAY if name in PRETRAINED else LAST


def recipe_at(rate: float, considers: tuple[float, ...] = LAST) -> Recipe:
    """Of all networks alike, but for the rate and what looks consider."""
    return Recipe(rate, epochs=25, fewest_steps=300, considers=considers)


def _measure_candidate(measurement: CrossFit, candidate: Candidate) -> None:
    measurement.tried(*candidate)


def _measure_one(measurement: CrossFit, wanted: Wanted) -> None:
    name, scheme, per_class, fold, draw = wanted
    measurement.answers(name, measurement.scheme(scheme), per_class, fold, draw)


def _kept(codes: NDArray[np.int64], table: NDArray[np.float64]) -> dict[str, Any]:
    return {"codes": codes.tolist(), "probabilities": np.round(table, 5).tolist()}


def _chosen(labelled: Labelled, mask: NDArray[np.bool_]) -> Labelled:
    return Labelled(labelled.rows[mask], labelled.codes[mask])


def labelled(codes: NDArray[np.int64]) -> Labelled:
    rows = np.flatnonzero(codes >= 0)
    return Labelled(rows, codes[rows])


def five_codes(stamps: Stamps) -> NDArray[np.int64]:
    """(N,) code of each stamp, -1 for none."""
    codes = {name: code for code, name in enumerate(FIVE)}
    told = stamps.table["label.gz2_class"].astype("string").map(codes)
    return np.asarray(told.fillna(-1), dtype=np.int64)


def four_codes(stamps: Stamps) -> NDArray[np.int64]:
    """(N,) codes of the four classes of Fu et al. (2024), as far as the votes tell them."""
    five = five_codes(stamps)
    codes = np.select([np.isin(five, (0, 1)), five == 3, five == 4], [0, 1, 2], default=-1)
    votes = "votes.gz2_votes."
    features = [stamps.table[f"{votes}odd_feature.{name}"].fillna(0) for name in ("irregular", "disturbed", "merger")]
    other = (stamps.table[f"{votes}odd.yes"] >= 0.5) & (sum(features) >= 0.5)
    return np.where(other, 3, codes)
