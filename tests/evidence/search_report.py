"""What the searches came to: tables, and the figures with their paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.evidence.labels_needed import labels_needed
from tests.evidence.search_efficiency import ENOUGH
from tests.evidence.search_features import LVM
from tests.evidence.search_loop import Curve, mean_curve, paired_interval
from tests.evidence.search_plot import plot_found
from tests.evidence.search_strategies import OURS, STRATEGIES
from tests.evidence.search_targets import Target, large
from tests.evidence.workbench import Workbench

Curves = list[dict[str, Any]]
"""Of one kind of search, by seed."""

Kind = tuple[str, str, float, bool, str]
"""Features, strategy, error, whether half is held out, target."""

PRECISION_GOAL, EFFICIENCY_GOAL = 0.85, 20.0
SHOWN_ROUNDS = (0, 1, 2, 3, 5, 7, 10)

NAMES = {
    "found": "Share of the members found after ten rounds",
    "harvest": "Members found and among the next 50, of what so many looks could bring",
    "precision": "Precision of the 50 best without a label after ten rounds",
    "area": "Area under found by round, of what could have been found",
}
"""Figures of a search, by the title of their table."""


@dataclass(frozen=True)
class Results:
    """All measurements.

    Attributes
    ----------
    ceilings
        By target and seed, what all labels of the searched half teach (`search_ceiling`).
    networks
        By target, AUC of ResNet18 by the number of random labels.
    """

    searches: Mapping[Kind, Curves]
    ceilings: Mapping[str, list[dict[str, float]]]
    networks: Mapping[str, Mapping[float, float]]
    targets: Sequence[Target]
    features: Sequence[str]
    error: float
    remark: str

    def curves(
        self, target: str, strategy: str = OURS, features: str = LVM, *, error: float = 0.0, held_out: bool = False
    ) -> Curves | None:
        """None where it is not measured."""
        return self.searches.get((features, strategy, error, held_out, target))


def write(bench: Workbench, results: Results) -> None:
    """Tables, plot and figures."""
    for what, title in NAMES.items():
        _by_strategy(bench, results, what, title)
    _by_round(bench, results)
    _by_features(bench, results)
    _errors(bench, results)
    _held_out(bench, results)
    plot_found(bench, results.targets, lambda target, strategy: results.curves(target, strategy))
    _efficiency(bench, results)
    _figures(bench, results)


def values(curves: Curves, what: str) -> NDArray[np.float64]:
    """(S,) one of `Curve.figures`, or the last AUC, by seed."""
    searches = [Curve(**curve) for curve in curves]
    return np.array([curve.auc[-1] if what == "auc" else curve.figures()[what] for curve in searches])


def _cell(curves: Curves | None, what: str) -> str:
    if curves is None:
        return ""
    of = values(curves, what)
    return "none left" if np.isnan(of).all() else f"{np.nanmean(of):.2f}"


def _three(curves: Curves | None) -> str:
    return "" if curves is None else " / ".join(_cell(curves, what) for what in ("found", "harvest", "precision"))


def _mean(results: Results, what: str, strategy: str = OURS, error: float = 0.0) -> float:
    """Over the targets with at least 100 members; NaN where one of them is not measured."""
    of = [results.curves(target.name, strategy, error=error) for target in large(results.targets)]
    return float(np.mean([np.nan if curves is None else np.nanmean(values(curves, what)) for curves in of]))


def _by_strategy(bench: Workbench, results: Results, what: str, title: str) -> None:
    head = ["", *(f"{t.name} ({t.members} of {len(t.rows)})" for t in results.targets), "mean"]
    rows = []
    for name in STRATEGIES:
        of = [results.curves(target.name, name) for target in results.targets]
        rows.append([name, *(_cell(each, what) for each in of), f"{_mean(results, what, name):.3f}"])
    bench.table(title, head, rows, _remark(results))


def _by_round(bench: Workbench, results: Results) -> None:
    names = [target.name for target in large(results.targets)]
    for what in ("found", "precision"):
        rows = []
        for strategy in STRATEGIES:
            curves = [results.curves(name, strategy) for name in names]
            mean = np.mean([mean_curve(each, what) for each in curves if each is not None], axis=0)
            rows.append([strategy, *(f"{mean[number]:.3f}" for number in SHOWN_ROUNDS)])
        head = ["after round", *map(str, SHOWN_ROUNDS)]
        bench.table(f"Round by round: {what}", head, rows, f"Mean of {', '.join(names)}. {_remark(results)}")


def _by_features(bench: Workbench, results: Results) -> None:
    """Of the seeds that all were searched with."""
    of = {
        features: [results.curves(target.name, features=features) for target in results.targets]
        for features in results.features
    }
    seeds = min(len(curves) for row in of.values() for curves in row if curves is not None)
    head = ["found / harvest / precision", *(target.name for target in results.targets)]
    rows = [[features, *(_three(curves and curves[:seeds]) for curves in row)] for features, row in of.items()]
    bench.table(
        "Our search on other features",
        head,
        rows,
        f"GalaxAlign was taught classes of Galaxy Zoo 2 and is not asked for them. {_remark(results, seeds)}",
    )


def _errors(bench: Workbench, results: Results) -> None:
    rows = [
        [name, *(f"{_mean(results, what, name, error=results.error):.3f}" for what in NAMES)] for name in STRATEGIES
    ]
    title = f"An annotator who errs in {results.error:.0%} of the answers: means"
    erring = results.curves(results.targets[0].name, error=results.error)
    bench.table(title, ["", *NAMES], rows, _remark(results, len(erring or [])))


def _held_out(bench: Workbench, results: Results) -> None:
    """All strategies judged by the same galaxies."""
    targets = [t for t in large(results.targets) if results.curves(t.name, held_out=True)]
    head = ["precision / AUC", *(target.name for target in targets), "mean"]
    precision, rows = {}, []
    for name in STRATEGIES:
        of = [results.curves(target.name, name, held_out=True) or [] for target in targets]
        precision[name], aucs = (np.array([values(each, what) for each in of]) for what in ("precision", "auc"))
        cells = [f"{_cell(each, 'precision')} / {_cell(each, 'auc')}" for each in of]
        rows.append([name, *cells, f"{precision[name].mean():.3f} / {aucs.mean():.3f}"])
    most = {
        name: np.mean([[each["precision"], each["auc"]] for each in of], axis=0)
        for name, of in results.ceilings.items()
    }
    cells = [f"{most[target.name][0]:.2f} / {most[target.name][1]:.2f}" for target in targets]
    precision_of_all, auc_of_all = np.mean([most[target.name] for target in targets], axis=0)
    rows.append(["all labels of the other half", *cells, f"{precision_of_all:.3f} / {auc_of_all:.3f}"])
    labels = [each["labels"] for of in results.ceilings.values() for each in of]
    bench.table(
        "All strategies judged by the same galaxies, half of the pool that is never shown",
        head,
        rows,
        f"Precision of the 50 best of that half, and its AUC, after ten rounds in the other. All labels: {min(labels)} "
        f"to {max(labels)} of them, on the features of our searches, the better of logistic regressions and support "
        f"vector machines by cross-validation. {_remark(results)}",
    )
    bench.report("hitl_precision_top50_all_labels", float(precision_of_all), "share", "reported", True)
    others = [each for name, each in precision.items() if name != OURS]
    best = all(paired_interval(precision[OURS], other)[1] > 0 for other in others)
    bench.report("hitl_precision_top50_unseen", float(precision[OURS].mean()), "share", "above every other's", best)


def _efficiency(bench: Workbench, results: Results) -> None:
    rows, ratios = [], []
    for name, network in results.networks.items():
        curves = results.curves(name, held_out=True)
        assert curves is not None
        mean = mean_curve(curves, "auc")
        labels = mean_curve(curves, "labels").tolist()
        own, reached = labels_needed(dict(zip(labels, mean.tolist(), strict=True)), ENOUGH)
        theirs, enough = labels_needed(network, ENOUGH)
        least = "at least " if not enough else "at most " if theirs == min(network) else ""
        ratio = theirs / own if reached else float("nan")
        ratios.append(ratio)
        rows.append(
            [
                name,
                f"{own:.0f}" if reached else f"not with {own:.0f} (AUC {mean.max():.3f})",
                f"{least}{theirs:.0f}",
                ", ".join(f"{count:.0f}: {network[count]:.3f}" for count in sorted(network)),
                f"{least}{ratio:.1f}" if reached else "none",
            ]
        )  # fmt: skip
    head = ["", "ours", "ResNet18", "its AUC by labels", "ratio"]
    remark = (
        "Half of each pool is held out and judges; examples count as labels; ResNet18 learns from scratch on random "
        "labels of the searched half, which ends before it may get there. The figure is the geometric "
        "mean of the ratios; a target that our search does not bring to this AUC counts as 1."
    )
    bench.table(f"Labels for an AUC of {ENOUGH}", head, rows, remark)
    if ratios:
        value = float(np.exp(np.mean(np.log([1.0 if np.isnan(each) else each for each in ratios]))))
        bench.report("hitl_label_efficiency", value, "ratio", f">= {EFFICIENCY_GOAL:g}", value >= EFFICIENCY_GOAL)


def _figures(bench: Workbench, results: Results) -> None:
    """The figures, and by how much ours lie above every other strategy's, seed by seed."""
    names = [target.name for target in large(results.targets)]
    rows: list[list[str]] = []
    above: dict[tuple[str, str], float] = {}
    for other in (name for name in STRATEGIES if name != OURS):
        cells = [other]
        for what in NAMES:
            pairs = [(results.curves(name), results.curves(name, other)) for name in names]
            ours, theirs = (np.array([values(pair[i] or [], what) for pair in pairs]) for i in (0, 1))
            mean, low, high = paired_interval(ours, theirs)
            above[other, what] = low
            cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
        rows.append(cells)
    bench.table(
        "Ours above each other strategy",
        ["", *NAMES],
        rows,
        f"Means of {', '.join(names)}; 95 % paired bootstrap intervals over seeds. {_remark(results)}",
    )
    best = {what: all(above[other, what] > 0 for other in STRATEGIES if other != OURS) for what in NAMES}
    precision, harvest = _mean(results, "precision"), _mean(results, "harvest")
    reached = precision >= PRECISION_GOAL and best["precision"]
    bench.report("hitl_precision_top50", precision, "share", f">= {PRECISION_GOAL}, and above every other's", reached)
    bench.report("hitl_harvest_top50", harvest, "share", "above every other's", best["harvest"])


def _remark(results: Results, seeds: int | None = None) -> str:
    curves = results.curves(results.targets[0].name) or []
    return (
        f"{seeds or len(curves)} seeds, three examples, ten rounds of 16; mean: of the targets with at least 100 "
        f"members. Columns: members of the pool's galaxies. {results.remark}"
    )
