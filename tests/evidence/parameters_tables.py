"""How well parameters are told: tables and the picture of `parameters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from galaxy_models.calibration import coverage
from galaxy_models.simulation.galaxy import Galaxy
from tests.evidence.simulated import Arrays
from tests.evidence.workbench import Workbench

matplotlib.use("agg")
import matplotlib.pyplot as plt

NAMES = ("mag_r", "half_light_radius", "axis_ratio", "sersic_index")
RELATIVE = ("half_light_radius", "sersic_index")
"""Judged by their relative error; the others by the difference."""

OUTLIER = {"mag_r": 0.5, "half_light_radius": 0.5, "axis_ratio": 0.3, "sersic_index": 1.0}
"""Errors beyond which an answer is of no use."""

FIT, BOTH, PHOTOMETRY, PICTURE = "Sersic fit", "ours", "photometry alone", "picture alone"
ANSWERS = (BOTH, PHOTOMETRY, PICTURE)
"""Of our head: with all it reads, with photometry before the joint training, and with the picture after it."""

ALL = "all"
DRAWS = 1000

Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Results:
    """What was told of the test galaxies.

    Attributes
    ----------
    test
        Their truth, see `simulated.observed_stamp`.
    galaxies
        What they are.
    answers
        By method: of each seed every parameter (N,), its `<name>_sigma` but for the fit, and `seconds` a galaxy.
    converged
        Share of the fits that ended by themselves.
    learnt_from
        Data and training, for the reader.
    """

    test: Arrays
    galaxies: Sequence[Galaxy]
    answers: Mapping[str, Sequence[Mapping[str, Any]]]
    converged: float
    learnt_from: str

    def errors(self, method: str, name: str) -> list[Floats]:
        """Of each seed (N,)."""
        return [errors(name, answer[name], self.test[name]) for answer in self.answers[method]]

    def seconds(self, method: str) -> float:
        """For a galaxy."""
        return float(np.mean([answer["seconds"] for answer in self.answers[method]]))

    def kinds(self) -> dict[str, Chosen]:
        """The galaxies by what a Sersic profile is to them."""
        spheroid = np.array([galaxy.disk is None for galaxy in self.galaxies])
        edge_on = np.array([galaxy.kind == "edge_on_disk" for galaxy in self.galaxies])
        groups = {"Sersic profiles": spheroid, "disks seen edge-on": edge_on, "other disks": ~spheroid & ~edge_on}
        return {f"{name} ({chosen.sum()})": chosen for name, chosen in groups.items() if chosen.any()}

    def halves(self) -> dict[str, Chosen]:
        """The galaxies by their S/N."""
        signal = self.test["signal_to_noise"]
        middle = np.median(signal)
        return {f"S/N below {middle:.0f}": signal < middle, f"S/N above {middle:.0f}": signal >= middle}


def errors(name: str, answer: Any, true: Any) -> Floats:
    """Relative or plain errors, as the parameter is judged."""
    difference = np.asarray(answer, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    return np.asarray(difference / true if name in RELATIVE else difference)


def scatter(error: Floats) -> float:
    """Normalised median absolute deviation, 1.4826 median |e - median|."""
    return float(1.4826 * np.median(np.abs(error - np.median(error))))


def summary(name: str, error: Floats) -> tuple[float, float, float]:
    """Bias (median), scatter, and share of outliers."""
    return float(np.median(error)), scatter(error), float(np.mean(np.abs(error) > OUTLIER[name]))


def scatter_ratio(ours: Sequence[Floats], theirs: Sequence[Floats], seed: int = 0) -> tuple[float, float, float]:
    """Our scatter over theirs, each the mean over seeds, and its 95 % paired bootstrap interval over galaxies."""

    def ratio(rows: Any) -> float:
        mean = [float(np.mean([scatter(error[rows]) for error in each])) for each in (ours, theirs)]
        return mean[0] / max(mean[1], 1e-12)

    count = len(ours[0])
    draw = np.random.default_rng(seed)
    low, high = np.quantile([ratio(draw.integers(count, size=count)) for _ in range(DRAWS)], [0.025, 0.975])
    return ratio(slice(None)), float(low), float(high)


def write_tables(bench: Workbench, results: Results) -> None:
    """What each tells, and ours over the fit."""
    every = {ALL: np.ones(len(results.galaxies), dtype=bool)}
    remark = (
        f"{results.learnt_from} Bias is the median, scatter the normalised median absolute deviation, outliers are off "
        f"by more than {', '.join(f'{value:g} ({name})' for name, value in OUTLIER.items())}; an honest sigma holds "
        "0.68; the spread of the seeds in brackets. Beside other work a galaxy took "
        f"{results.seconds(BOTH):.3f} s of one core for ours and {results.seconds(FIT):.2f} s for the fit "
        f"({results.converged:.0%} ended by themselves)."
    )
    rows = _rows(results, every, (FIT, *ANSWERS)) + _rows(results, results.halves(), (FIT, BOTH))
    head = ["parameter", "galaxies", "method", "bias", "scatter", "outliers", "within 1 sigma"]
    bench.table("Parameters of simulated galaxies", head, rows, remark)

    def over_fit(method: str, name: str, chosen: Chosen) -> str:
        each = [[error[chosen] for error in results.errors(of, name)] for of in (method, FIT)]
        return "{:.2f} ({:.2f} to {:.2f})".format(*scatter_ratio(each[0], each[1]))

    groups = {**every, **results.kinds()}
    columns: list[tuple[str, Callable[[str], str]]] = [
        *((f"ours, {group}", lambda name, c=chosen: over_fit(BOTH, name, c)) for group, chosen in groups.items()),
        *((f"{method}, {ALL}", lambda name, m=method: over_fit(m, name, every[ALL])) for method in ANSWERS[1:]),
    ]
    bench.table(
        "Scatter over that of a Sersic fit",
        ["parameter", *(title for title, _ in columns)],
        [[_title(name), *(tell(name) for _, tell in columns)] for name in NAMES],
        "95 % paired bootstrap intervals over the same galaxies; below 1 ours scatters less. The fit knows the true "
        "PSF, has r alone and weights pixels by the noise of the sky; ours reads g, r and z and knows no PSF. True "
        "radius and index of a disk are those of the light's curve of growth, of a disk seen edge-on those that it has "
        "seen face-on: no single Sersic profile knows them, and ours was taught them.",
    )


def plot(bench: Workbench, results: Results) -> None:
    """Errors by S/N of the fit and of our first seed, into `pictures/parameters.png`."""
    figure, axes = plt.subplots(1, len(NAMES), figsize=(4 * len(NAMES), 3.6), layout="constrained")
    for axis, name in zip(axes, NAMES, strict=True):
        limit = 2 * OUTLIER[name]
        for method, colour in ((FIT, "tab:orange"), (BOTH, "tab:blue")):
            error = np.clip(results.errors(method, name)[0], -limit, limit)
            axis.plot(results.test["signal_to_noise"], error, ".", color=colour, ms=5, alpha=0.7, label=method)
        axis.axhline(0, color="0.3", lw=0.8)
        axis.set(xscale="log", xlabel="S/N in r", ylim=(-1.05 * limit, 1.05 * limit))
        axis.set_ylabel(f"{name.replace('_', ' ')}, {'relative ' if name in RELATIVE else ''}error")
    axes[0].legend(fontsize=8)
    figure.savefig(bench.picture("parameters.png"), dpi=110)
    plt.close(figure)


def _rows(results: Results, groups: Mapping[str, Chosen], methods: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in NAMES:
        for group, chosen in groups.items():
            for method in methods:
                told = [summary(name, error[chosen]) for error in results.errors(method, name)]
                columns = [_seeds(list(column), 3) for column in zip(*told, strict=True)]
                rows.append([_title(name), group, method, *columns, _within(results, method, name, chosen)])
    return rows


def _within(results: Results, method: str, name: str, chosen: Chosen) -> str:
    """Share of the truths within one sigma; the fit tells none."""
    if method == FIT:
        return ""

    def share(answer: Mapping[str, Any]) -> float:
        told, sigma = (np.asarray(answer[key])[chosen] for key in (name, f"{name}_sigma"))
        return coverage(results.test[name][chosen], told, sigma)

    return _seeds([share(answer) for answer in results.answers[method]], 2)


def _title(name: str) -> str:
    return f"{name.replace('_', ' ')}{', relative' if name in RELATIVE else ''}"


def _seeds(values: list[float], digits: int) -> str:
    spread = f" [±{np.std(values, ddof=1):.{digits}f}]" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
