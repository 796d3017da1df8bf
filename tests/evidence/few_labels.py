"""How well classes are told from few labels: our network against others."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from tests.evidence.cross_fit import CrossFit, Scheme, measure_in_processes, opened
from tests.evidence.cross_fit_sizes import CHOSEN_AT, OURS, Size
from tests.evidence.few_votes import measure_votes
from tests.evidence.label_efficiency import Efficiency, efficiencies
from tests.evidence.macro_auc import Answers, Score, auc_of, macro_auc_of
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
    _figures(bench, measurement, curves)


def _answers(measurement: CrossFit, name: str, scheme: Scheme, per_class: int) -> Answers:
    size = measurement.size
    return [
        measurement.answers(name, scheme, per_class, fold, draw) | {"fold": fold}
        for fold in size.tested
        for draw in range(measurement.draws(per_class))
    ]


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
        "galaxies, one of them before the first step; looks at what was pre-trained consider the weights halfway from "
        "its first to those of then as well. Learning rates, chosen once by validation galaxies of fold "
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


def _figures(bench: Workbench, measurement: CrossFit, curves: dict[str, dict[int, Answers]]) -> None:
    scored = measurement.five.scored
    for count, goal in ((50, 0.95), (10, 0.90)):
        value = auc_of(curves[OURS][count], scored)
        bench.report(f"few_shot_auc_{count}", value, "macro AUC", f">= {goal:.2f}", value >= goal)
    found = efficiencies(curves[OURS], curves["resnet18"], scored)
    bench.table(
        "Labels that ResNet18 from scratch needs for our AUC",
        ["ours, a class", "our AUC", "ResNet18's, a class", "ratio"],
        [_row(each) for each in found],
        "Interpolated over the logarithm of the labels; 95 % bootstrap intervals over test galaxies; no number of "
        "labels counts as more than the most, or fewer than the fewest, that were measured; the figure "
        "`label_efficiency` is the ratio at our fewest.",
    )
    fewest = found[0]
    bench.report("label_efficiency", fewest.ratio, "ratio", ">= 10", fewest.ratio >= 10)


def _row(each: Efficiency) -> list[str]:
    least = "" if each.reached else "at least "
    ratio = f"{least}{each.ratio:.1f} ({each.low:.1f} to {each.high:.1f})"
    return [f"{each.labels}", f"{each.auc:.3f}", f"{least}{each.needed:.0f}", ratio]
