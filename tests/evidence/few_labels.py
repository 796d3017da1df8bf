"""How well classes are told from few labels: our network against others, on Galaxy Zoo 2's clear cases.

Every labelled galaxy is in one of five folds, near-duplicates in the same. A test fold is seen by nobody: not by the
pre-training, which takes the stamps alone, not by the training, and not by the choice of rates and of the best look,
which is made on the fold after it. Galaxies of that one count as no labels, for any network: all have the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from galaxy_models.metrics import auc
from tests.benchmarks.result import report
from tests.evidence.classifiers import FromScratch, Labelled, OurClassifier, Recipe, Rows, probabilities, train
from tests.evidence.handmade import own_measures, statmorph_features
from tests.evidence.pretrained import Pretraining, network_input, pretrained, untrained
from tests.evidence.stamps import FOLDS, Stamps, folds, real_stamps
from tests.evidence.workbench import PICTURES, Workbench

SOURCE = "gz2"

FIVE = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral")
FIVE_SCORED = (0, 1, 3, 4)
"""There are 22 cigars, four or five in a fold: they are among the others of every class, and told apart."""

FOUR = ("elliptical", "edge_on", "spiral", "other")

OURS, UNTRAINED = "ours", "ours from scratch"
FOREST, OWN_FOREST = "forest on statmorph", "forest on own measures"
FORESTS = (FOREST, OWN_FOREST)
THREADS = 2


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes
    ----------
    folds, draws
        Folds that are tested, and draws of the labels for each.
    labels, labels_of_others
        Per class, of ours and of the others.
    rates
        Learning rates of each network to choose from, once, at 50 a class.
    pretraining_per_fold
        Pre-train for each test fold by itself; otherwise once, on stamps of no test fold.
    """

    folds: int
    draws: int
    labels: tuple[int, ...]
    labels_of_others: tuple[int, ...]
    rates: dict[str, tuple[float, ...]]
    pretraining: Pretraining
    pretraining_per_fold: bool


SMALL = Size(
    folds=3,
    draws=1,
    labels=(5, 10, 20, 50, 100, 200),
    labels_of_others=(10, 50, 200),
    rates={OURS: (2e-3,), UNTRAINED: (2e-3,), "resnet18": (1e-3,)},
    pretraining=Pretraining("nano", steps=2500, batch_size=64, learning_rate=1e-3),
    pretraining_per_fold=False,
)
FULL = Size(
    folds=FOLDS,
    draws=3,
    labels=(5, 10, 20, 50, 100, 200),
    labels_of_others=(5, 10, 20, 50, 100, 200),
    rates={name: (5e-4, 1e-3, 2e-3, 4e-3) for name in (OURS, UNTRAINED, "resnet18", "resnet50")},
    pretraining=Pretraining("nano", steps=6000, batch_size=64, learning_rate=1e-3),
    pretraining_per_fold=True,
)


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


class FewLabels:
    """The measurement, with the stamps at hand."""

    def __init__(self, bench: Workbench, stamps: Stamps, size: Size) -> None:
        self.bench = bench
        self.stamps = stamps
        self.size = size
        rows = stamps.rows(SOURCE)
        self.fold_of = np.full(len(stamps.table), -1)
        self.fold_of[rows] = folds(stamps, rows, five_codes(stamps)[rows])

    def parts(self, scheme: Scheme, fold: int) -> Parts:
        """The test fold, the one after it for choices, the other three for training."""
        of = self.fold_of[scheme.labelled.rows]
        test, validation = of == fold, of == (fold + 1) % FOLDS
        return Parts(*(_chosen(scheme.labelled, each) for each in (~test & ~validation, validation, test)))

    def unlabelled(self, fold: int) -> Rows:
        """What pre-training may see: train stamps of other sources, and of this one all that no test fold has."""
        tested = [fold] if self.size.pretraining_per_fold else list(range(self.size.folds))
        other = (self.stamps.table["source"] != SOURCE) & (self.stamps.table["split"] == "train")
        own = (self.fold_of >= 0) & ~np.isin(self.fold_of, tested)
        return np.flatnonzero(other.to_numpy() | own)

    def network(self, name: str, classes: Sequence[str], fold: int, seed: int) -> nn.Module:
        """A classifier that has seen no label."""
        rows, preset = self.unlabelled(fold), self.size.pretraining.preset
        if name == OURS:
            lvm = pretrained(self.bench, self.stamps, rows, self.size.pretraining, THREADS)
        elif name == UNTRAINED:
            lvm = untrained(self.stamps, rows, preset, seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if name in (OURS, UNTRAINED):
                return OurClassifier(lvm, classes, 0.25 if name == OURS else 1.0)
            sample = network_input(self.stamps, rows[:: max(1, len(rows) // 1024)])
            return FromScratch(name, classes, sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))

    def answers(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int) -> dict[str, Any]:
        """Probabilities of the test fold by a classifier that was trained on `per_class` labels a class."""
        key = {"model": name, "scheme": scheme.name, "labels": per_class, "fold": fold, "draw": draw}
        if name in FORESTS:
            return self.bench.cell(lambda: self._forest(name, scheme, per_class, fold, draw), **key)
        rate = self.rate(name, scheme)
        return self.bench.cell(
            lambda: self._trained(name, scheme, per_class, fold, draw, rate), rate=rate, **key, **self._prepared(name)
        )

    def rate(self, name: str, scheme: Scheme) -> float:
        """The learning rate, chosen once by the validation galaxies of the first fold."""
        candidates = self.size.rates[name]
        if len(candidates) == 1:
            return candidates[0]
        scores = {
            rate: self.bench.cell(
                lambda rate=rate: {"validation": self._train(name, scheme, 50, 0, 0, rate)[1]},  # type: ignore[misc]
                choice="rate", model=name, scheme=scheme.name, rate=rate, **self._prepared(name),
            )["validation"]
            for rate in candidates
        }  # fmt: skip
        return max(scores, key=lambda rate: scores[rate])

    def _prepared(self, name: str) -> dict[str, Any]:
        how = self.size.pretraining
        text = f"{how.preset} {how.steps}x{how.batch_size} {dict(how.pretexts)} {self.size.pretraining_per_fold}"
        return {"pretraining": text} if name == OURS else {}

    def _train(
        self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float
    ) -> tuple[nn.Module, float]:
        parts, seed = self.parts(scheme, fold), 100 * fold + draw
        classifier = self.network(name, scheme.classes, fold, seed)
        few = parts.train.few(per_class, seed)
        recipe = Recipe(rate, epochs=40, fewest_steps=300)
        return classifier, train(classifier, self.stamps, few, parts.validation, recipe, seed, THREADS)

    def _trained(self, name: str, scheme: Scheme, per_class: int, fold: int, draw: int, rate: float) -> dict[str, Any]:
        classifier, _ = self._train(name, scheme, per_class, fold, draw, rate)
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


def run(bench: Workbench) -> None:
    """Measure, and write tables, plot and figures."""
    torch.set_num_threads(THREADS)
    size = FULL if bench.full else SMALL
    stamps = real_stamps()
    measurement = FewLabels(bench, stamps, size)
    five = Scheme("five", FIVE, FIVE_SCORED, labelled(five_codes(stamps)))
    four = Scheme("four", FOUR, tuple(range(len(FOUR))), labelled(four_codes(stamps)))
    curves = {
        name: {count: _answers(measurement, name, five, count) for count in _labels_of(name, size)}
        for name in (*size.rates, *FORESTS)
    }
    scores = {
        name: {count: macro_auc_of(answers, five.scored) for count, answers in curve.items()}
        for name, curve in curves.items()
    }
    remark = _remark(size, five.labelled)
    _table(bench, "Macro AUC of four classes from few labels", scores, size.labels, remark)
    cigars = {name: {n: macro_auc_of(a, (2,)) for n, a in curve.items()} for name, curve in curves.items()}
    _table(bench, "AUC of the 22 cigars, told apart", cigars, size.labels, remark)
    chosen = 50
    of_four = {
        name: {chosen: macro_auc_of(_answers(measurement, name, four, chosen), four.scored)}
        for name in (OURS, "resnet18", OWN_FOREST)
    }
    _table(
        bench,
        "Macro AUC of elliptical, edge-on, spiral and other",
        of_four,
        (chosen,),
        "`other` is odd by half of the votes, and irregular, disturbed or merging by half of those "
        f"({int((four.labelled.codes == 3).sum())} galaxies, so fewer than 50 to learn from). {remark}",
    )
    _plot(scores)
    _figures(bench, size, scores)


@dataclass(frozen=True)
class Score:
    """A figure with its 95 % interval over galaxies, and the spread of its folds and draws."""

    value: float
    low: float
    high: float
    spread: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def macro_auc_of(answers: Sequence[dict[str, Any]], scored: Sequence[int], draws: int = 300) -> Score:
    """Mean over folds and draws of the mean AUC of the scored classes, each against all the rest.

    The interval is a bootstrap's over the test galaxies of each fold; draws of one fold share their galaxies.
    """
    tables = [(np.asarray(each["codes"]), np.asarray(each["probabilities"]), each["fold"]) for each in answers]
    single = [_mean_auc(codes, table, scored) for codes, table, _ in tables]
    generator, values = np.random.default_rng(0), []
    for _ in range(draws):
        picks = {fold: generator.integers(len(codes), size=len(codes)) for codes, _, fold in tables}
        values.append(np.mean([_mean_auc(c[picks[f]], t[picks[f]], scored) for c, t, f in tables]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Score(float(np.mean(single)), float(low), float(high), float(np.std(single)))


def labels_needed(curve: dict[int, Score], wanted: float) -> tuple[float, bool]:
    """Labels a class at which a curve reaches an AUC, linear between the points over the logarithm of the labels.

    Returns
    -------
    float
        Labels; the largest number measured where the curve stays below.
    bool
        Whether it is reached: otherwise the number is "at least".
    """
    counts = sorted(curve)
    values = np.maximum.accumulate([curve[count].value for count in counts])
    if wanted > values[-1]:
        return float(counts[-1]), False
    return float(np.exp(np.interp(wanted, values, np.log(counts)))), True


def _labels_of(name: str, size: Size) -> tuple[int, ...]:
    return size.labels if name in (OURS, *FORESTS) else size.labels_of_others


def _answers(measurement: FewLabels, name: str, scheme: Scheme, per_class: int) -> list[dict[str, Any]]:
    size = measurement.size
    return [
        measurement.answers(name, scheme, per_class, fold, draw) | {"fold": fold}
        for fold in range(size.folds)
        for draw in range(size.draws)
    ]


def _mean_auc(codes: NDArray[np.int64], table: NDArray[np.float64], scored: Sequence[int]) -> float:
    return float(np.mean([auc(codes == code, table[:, code]) for code in scored]))


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


def _remark(size: Size, labelled: Labelled) -> str:
    how = size.pretraining
    return (
        f"Galaxy Zoo 2, {len(labelled.rows)} galaxies with a clear class, 64 px; {size.folds} of five folds tested, "
        f"{size.draws} draw{'s' if size.draws > 1 else ''} of the labels each; 95 % bootstrap intervals over test "
        f"galaxies. Ours: `{how.preset}`, pre-trained on {' and '.join(dict(how.pretexts))} for {how.steps} steps of "
        f"{how.batch_size} stamps, none of a test fold among them. All networks: same augmentation, same number of "
        "steps, the best of four looks at validation galaxies."
    )


def _table(
    bench: Workbench, title: str, scores: dict[str, dict[int, Score]], counts: Sequence[int], remark: str
) -> None:
    rows = [
        [name, *(str(curve[count]) if count in curve else "" for count in counts)] for name, curve in scores.items()
    ]
    bench.table(title, ["", *(f"{count} a class" for count in counts)], rows, remark)


def _plot(scores: dict[str, dict[int, Score]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in scores.items():
        counts = sorted(curve)
        values = np.array([curve[count].value for count in counts])
        spans = np.array([[curve[c].value - curve[c].low, curve[c].high - curve[c].value] for c in counts]).T
        axes.errorbar(counts, values, spans, label=name, marker="o", capsize=3, lw=2.5 if name == OURS else 1.2)
    axes.set(xscale="log", xlabel="labels a class", ylabel="macro AUC", title="Galaxy Zoo 2, four classes")
    axes.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / "few_labels.png", dpi=110)
    plt.close(figure)


def _figures(bench: Workbench, size: Size, scores: dict[str, dict[int, Score]]) -> None:
    ours = scores[OURS]
    report("few_shot_auc_50", ours[50].value, "macro AUC", ">= 0.95", ours[50].value >= 0.95)
    report("few_shot_auc_10", ours[10].value, "macro AUC", ">= 0.90", ours[10].value >= 0.90)
    rows, ratios = [], {}
    for count in size.labels:
        needed, reached = labels_needed(scores["resnet18"], ours[count].value)
        ratios[count] = needed / count
        least = "" if reached else "at least "
        rows.append([f"{count}", f"{ours[count].value:.3f}", f"{least}{needed:.0f}", f"{least}{needed / count:.1f}"])
    bench.table(
        "Labels that ResNet18 from scratch needs for our AUC",
        ["ours, a class", "our AUC", "ResNet18's, a class", "ratio"],
        rows,
        "Interpolated over the logarithm of the labels; the figure `label_efficiency` is the ratio at our fewest.",
    )
    fewest = min(size.labels)
    report("label_efficiency", ratios[fewest], "ratio", ">= 10", ratios[fewest] >= 10)


def small_of(size: Size, **changes: Any) -> Size:
    """A size with changes, for trials and tests."""
    return replace(size, **changes)
