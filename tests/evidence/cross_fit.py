"""Classifiers from few labels on Galaxy Zoo 2's clear cases, trained and asked so that no answer was seen before.

Every labelled galaxy is in one of five folds, near-duplicates in the same. A test fold is seen by nobody: not by the
pre-training, which takes the stamps alone, not by the training, and not by the choice of rates and of the best look,
which is made on the fold after it. Galaxies of that one count as no labels, for any network: all have the same.

But for the full size, the last two folds are tested, or one of them. While network, pre-training and simulator were
made, results on the first three were looked at; the others were left aside, but for what runs report of the survey's
own split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from tests.evidence.classifiers import FromScratch, Labelled, OurClassifier, Recipe, Rows, probabilities, train
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

OURS, UNTRAINED = "ours", "ours from scratch"
ALIKE, BACKBONE = "resnet18, pre-trained as ours", "timm:resnet18"
"""Tells what is due to the pre-training, and what to the network."""

FOREST, OWN_FOREST = "forest on statmorph", "forest on own measures"
FORESTS = (FOREST, OWN_FOREST)
PRETRAINED = (OURS, ALIKE)

CHOSEN_AT = 50
"""Labels a class at which rates are chosen and the four classes are told."""
THREADS = 2
"""Of the pre-training, and processes of one thread each of all that follows: small networks fill one thread better."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes
    ----------
    tested, draws
        Folds that are tested, and draws of the labels for each.
    labels
        Numbers of labels a class, for each model.
    of_four
        Models that are also asked for the four classes.
    rates
        Learning rates of each network to choose from, once, at 50 a class.
    pretraining_per_fold
        Pre-train for each test fold by itself; otherwise once, on stamps of no test fold.
    """

    tested: tuple[int, ...]
    draws: int
    labels: dict[str, tuple[int, ...]]
    of_four: tuple[str, ...]
    rates: dict[str, tuple[float, ...]]
    pretraining: Pretraining
    pretraining_per_fold: bool


MIDDLE = Size(
    tested=(3, 4),
    draws=1,
    labels={
        OURS: (0, 5, 10, 50, 200),
        UNTRAINED: (50,),
        "resnet18": (10, 50, 200),
        FOREST: (5, 10, 50, 200),
        OWN_FOREST: (5, 10, 50, 200),
    },
    of_four=(OURS, "resnet18", OWN_FOREST),
    rates={OURS: (2e-3,), UNTRAINED: (2e-3,), "resnet18": (1e-3,)},
    pretraining=Pretraining("nano", steps=2500, batch_size=32, learning_rate=1e-3),
    pretraining_per_fold=False,
)
SMALL = replace(
    MIDDLE,
    tested=(3,),
    labels={name: counts for name, counts in MIDDLE.labels.items() if name != FOREST},  # statmorph takes minutes
    pretraining=replace(MIDDLE.pretraining, steps=1200),
)
NETWORKS = (OURS, ALIKE, UNTRAINED, "resnet18", "resnet50")
COUNTS = (5, 10, 20, 50, 100, 200)
FULL = Size(
    tested=tuple(range(FOLDS)),
    draws=3,
    labels={OURS: (0, *COUNTS), ALIKE: (0, *COUNTS), **dict.fromkeys((*NETWORKS[2:], *FORESTS), COUNTS)},
    of_four=(*NETWORKS, *FORESTS),
    rates=dict.fromkeys(NETWORKS, (5e-4, 1e-3, 2e-3, 4e-3)),
    pretraining=Pretraining("nano", steps=6000, batch_size=64, learning_rate=1e-3),
    pretraining_per_fold=True,
)


SIZES = {"small": SMALL, "middle": MIDDLE, "full": FULL}


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
        tasks.sort(key=lambda task: (task[0] in FORESTS, -task[2]))
        return [(*task, fold, draw) for task in tasks for fold in size.tested for draw in range(self.draws(task[2]))]

    def draws(self, per_class: int) -> int:
        """Draws of so many labels; of none there is one."""
        return self.size.draws if per_class else 1

    def prepare(self) -> None:
        """What all processes read: pre-trained networks, statmorph's features, learning rates."""
        for name in self.size.labels:
            for fold in self.size.tested if name in PRETRAINED else ():
                self.network(name, FIVE, fold, 0)
        if FOREST in self.size.labels:
            statmorph_features(self.bench, self.stamps, self.five.labelled.rows, THREADS)
        for name in self.size.rates:
            self.rate(name, self.five)

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
        rows = self.unlabelled(fold)
        if name in PRETRAINED:
            lvm = pretrained(self.bench, self.stamps, rows, self._pretraining(name), THREADS)
        elif name == UNTRAINED:
            lvm = untrained(self.stamps, rows, self.size.pretraining.preset, seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if name in (*PRETRAINED, UNTRAINED):
                return OurClassifier(lvm, classes, 0.25 if name in PRETRAINED else 1.0)
            sample = network_input(self.stamps, rows[:: max(1, len(rows) // 1024)])
            return FromScratch(name, classes, sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))

    def answers(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        """Probabilities of the test fold by a classifier that was trained on `per_class` labels a class.

        With no labels at all: what the pre-trained network tells of the classes by itself.
        """
        key = {"model": name, "scheme": scheme.name, "labels": per_class, "fold": fold, "draw": draw}
        if name in FORESTS:
            return self.bench.cell(lambda: self._forest(name, scheme, per_class, fold, draw), **key)
        rate = self.rate(name, scheme)
        return self.bench.cell(
            lambda: self._trained(name, scheme, per_class, fold, draw, rate), rate=rate, **key, **self._prepared(name)
        )

    def rate(self, name: str, scheme: Scheme) -> float:
        """The learning rate, chosen once by the validation galaxies of the first tested fold."""
        candidates = self.size.rates[name]
        if len(candidates) == 1:
            return candidates[0]
        first = self.size.tested[0]
        scores = {
            rate: self.bench.cell(
                lambda rate=rate: {"validation": self._train(name, scheme, CHOSEN_AT, first, 0, rate)[1]},  # type: ignore[misc]
                choice="rate", model=name, scheme=scheme.name, rate=rate, **self._prepared(name),
            )["validation"]
            for rate in candidates
        }  # fmt: skip
        return max(scores, key=lambda rate: scores[rate])

    def _pretraining(self, name: str) -> Pretraining:
        how = self.size.pretraining
        return replace(how, preset=BACKBONE) if name == ALIKE else how

    def _prepared(self, name: str) -> dict[str, Any]:
        if name not in PRETRAINED:
            return {}
        each = " for each fold" if self.size.pretraining_per_fold else ""
        return {"pretraining": f"{self._pretraining(name)}{each}", "simulator": simulator_digest()}

    def _train(
        self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float
    ) -> tuple[nn.Module, float]:
        parts, seed = self.parts(scheme, fold), 100 * fold + draw
        classifier = self.network(name, scheme.classes, fold, seed)
        few = parts.train.few(per_class, seed)
        recipe = Recipe(rate, epochs=25, fewest_steps=300)
        return classifier, train(classifier, self.stamps, few, parts.validation, recipe, seed)

    def _trained(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float) -> dict[str, Any]:
        if per_class:
            classifier, _ = self._train(name, scheme, per_class, fold, draw, rate)
        else:
            classifier = self.network(name, scheme.classes, fold, 100 * fold + draw)
        test = self.parts(scheme, fold).test
        return _kept(test.codes, probabilities(classifier, self.stamps, test.rows))

    def _forest(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        parts, seed = self.parts(scheme, fold), 100 * fold + draw
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


def measure_in_processes(bench: Workbench, wanted: Sequence[Wanted]) -> None:
    """Measure all that is not kept yet; what the processes find is read from the workbench afterwards."""
    in_processes(THREADS, bench, opened, _measure_one, wanted)


def _measure_one(measurement: CrossFit, wanted: Wanted) -> None:
    name, scheme, per_class, fold, draw = wanted
    schemes = {each.name: each for each in (measurement.five, measurement.four)}
    measurement.answers(name, schemes[scheme], per_class, fold, draw)


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
    return stamps.table["label.gz2_class"].astype("string").map(codes).fillna(-1).to_numpy(dtype=np.int64)


def four_codes(stamps: Stamps) -> NDArray[np.int64]:
    """(N,) codes of the four classes of Fu et al. (2024), as far as the votes tell them."""
    five = five_codes(stamps)
    codes = np.select([np.isin(five, (0, 1)), five == 3, five == 4], [0, 1, 2], default=-1)
    votes = "votes.gz2_votes."
    features = [stamps.table[f"{votes}odd_feature.{name}"].fillna(0) for name in ("irregular", "disturbed", "merger")]
    other = (stamps.table[f"{votes}odd.yes"] >= 0.5) & (sum(features) >= 0.5)
    return np.where(other, 3, codes)
