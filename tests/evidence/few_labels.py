"""How well classes are told from few labels: our network against others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from galaxy_models.metrics import auc
from tests.evidence.cross_fit import CrossFit, Scheme, measure_in_processes, opened
from tests.evidence.cross_fit_sizes import CHOSEN_AT, OURS, Size
from tests.evidence.few_votes import measure_votes
from tests.evidence.workbench import Workbench


def run(bench: Workbench) -> None:
    """Measure, and write tables, plot and figures."""
    measurement = opened(bench)
    size, five, four = measurement.size, measurement.five, measurement.four
    measurement.prepare()
    measure_in_processes(bench, measurement)
    curves = {
        name: {count: _answers(measurement, name, five, count) for count in counts}
        for name, counts in size.labels.items()
    }
    scores = {
        name: {count: macro_auc_of(answers, five.scored) for count, answers in curve.items()}
        for name, curve in curves.items()
    }
    remark = _remark(measurement, five)
    _table(bench, "Macro AUC of four classes from few labels", scores, size.labels[OURS], remark)
    cigars = {name: {n: macro_auc_of(a, (2,)) for n, a in curve.items()} for name, curve in curves.items()}
    _table(bench, "AUC of the 22 cigars, told apart", cigars, size.labels[OURS], remark)
    of_four = {
        name: {CHOSEN_AT: macro_auc_of(_answers(measurement, name, four, CHOSEN_AT), four.scored)}
        for name in size.of_four
    }
    _table(
        bench,
        "Macro AUC of elliptical, edge-on, spiral and other",
        of_four,
        (CHOSEN_AT,),
        "`other` is odd by half of the votes, and irregular, disturbed or merging by half of those "
        f"({int((four.labelled.codes == 3).sum())} galaxies, so fewer than 50 to learn from). {remark}",
    )
    measure_votes(bench, measurement)
    _plot(bench, scores)
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


def _answers(measurement: CrossFit, name: str, scheme: Scheme, per_class: int) -> list[dict[str, Any]]:
    size = measurement.size
    return [
        measurement.answers(name, scheme, per_class, fold, draw) | {"fold": fold}
        for fold in size.tested
        for draw in range(measurement.draws(per_class))
    ]


def _mean_auc(codes: NDArray[np.int64], table: NDArray[np.float64], scored: Sequence[int]) -> float:
    return float(np.mean([auc(codes == code, table[:, code]) for code in scored]))


def _remark(measurement: CrossFit, scheme: Scheme) -> str:
    size, how = measurement.size, measurement.size.pretraining
    rates = ", ".join(f"{name} {measurement.rate(name):g} of {_tried(size, name)}" for name in size.rates)
    return (
        f"Galaxy Zoo 2, {len(scheme.labelled.rows)} galaxies with a clear class, 64 px; folds tested, of 0 to 4: "
        f"{', '.join(map(str, size.tested))}; {size.draws} draw{'s' if size.draws > 1 else ''} of the labels each; 95 "
        f"% bootstrap intervals over test galaxies. Ours: `{how.preset}`, pre-trained on "
        f"{' and '.join(dict(how.pretexts))} for {how.steps} steps "
        f"of {how.batch_size} stamps, none of a test fold among them, and as many of {how.pictures} simulated "
        "galaxies. All networks: same augmentation, same number of steps, the best of five looks at validation "
        "galaxies, one of them before the first step. Learning rates, chosen once by validation galaxies of fold "
        f"{size.tested[0]} at {CHOSEN_AT} a class: {rates}. No label: what the pre-trained network tells of the "
        "classes."
    )


def _tried(size: Size, name: str) -> str:
    rates = size.rates[name]
    return f"{', '.join(f'{rate:g}' for rate in rates[:-1])} and {rates[-1]:g}" if len(rates) > 1 else "one"


def _table(
    bench: Workbench, title: str, scores: dict[str, dict[int, Score]], counts: Sequence[int], remark: str
) -> None:
    rows = [
        [name, *(str(curve[count]) if count in curve else "" for count in counts)] for name, curve in scores.items()
    ]
    bench.table(title, ["", *(f"{count} a class" for count in counts)], rows, remark)


def _plot(bench: Workbench, scores: dict[str, dict[int, Score]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, curve in scores.items():
        counts = [count for count in sorted(curve) if count]
        values = np.array([curve[count].value for count in counts])
        spans = np.array([[curve[c].value - curve[c].low, curve[c].high - curve[c].value] for c in counts]).T
        line = axes.errorbar(counts, values, spans, label=name, marker="o", capsize=3, lw=2.5 if name == OURS else 1.2)
        if 0 in curve:
            colour = line.lines[0].get_color()
            axes.axhline(curve[0].value, ls="--", lw=1.2, color=colour, label=f"{name}, no label")
    axes.set(xscale="log", xlabel="labels a class", ylabel="macro AUC", title="Galaxy Zoo 2, four classes")
    axes.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(bench.picture("few_labels.png"), dpi=110)
    plt.close(figure)


def _figures(bench: Workbench, size: Size, scores: dict[str, dict[int, Score]]) -> None:
    ours = scores[OURS]
    bench.report("few_shot_auc_50", ours[50].value, "macro AUC", ">= 0.95", ours[50].value >= 0.95)
    bench.report("few_shot_auc_10", ours[10].value, "macro AUC", ">= 0.90", ours[10].value >= 0.90)
    rows, ratios = [], {}
    for count in filter(None, size.labels[OURS]):
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
    fewest = min(ratios)
    bench.report("label_efficiency", ratios[fewest], "ratio", ">= 10", ratios[fewest] >= 10)
