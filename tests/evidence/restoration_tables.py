"""Tables of the restoration, in words that a reader needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galaxy_models.metrics import bootstrap_interval, mean_interval
from tests.evidence import image_measures
from tests.evidence.restoration_spaces import Pairs
from tests.evidence.workbench import Workbench

GOAL_DB = 1.5
EDGES = (0.0, 30.0, 100.0, 300.0, np.inf)
"""Of the bins of S/N in r within 3 arcsec."""

Floats = NDArray[np.float64]
Results = Mapping[str, Sequence[Mapping[str, Any]]]


def mean(cells: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """(N,) a per-stamp value, mean over seeds."""
    return np.mean([np.asarray(cell[name], dtype=np.float64) for cell in cells], axis=0)


def biases(results: Results, test: Pairs) -> dict[str, dict[str, Floats]]:
    """Quantity to method to (N,): relative error of flux and radius, error of the axis ratio."""
    truth = image_measures.measured(test.sharp[:, 1])
    result: dict[str, dict[str, Floats]] = {}
    for name, true in truth.items():
        scale = 1.0 if name == "axis_ratio" else true
        result[name] = {method: (mean(cells, name) - true) / scale for method, cells in results.items()}
    return result


def tell_fluxes(bench: Workbench, results: Results, signal: Floats, made: str) -> None:
    """The table of all methods and the figure of ours against Richardson-Lucy.

    Parameters
    ----------
    results
        Of each method, what was judged for each seed.
    signal
        S/N (N,) of the test galaxies.
    made
        Data, split, seeds and choices, for the remark.
    """
    before, similar = mean(results["degraded"], "db"), mean(results["degraded"], "ssim")
    bins = np.digitize(signal, EDGES[1:-1])
    head = ["method", "PSNR, dB", "gain, dB", "SSIM", "SSIM gain", *(f"gain, {_bin(each)}" for each in _bins())]
    rows = []
    for method, cells in results.items():
        gain = mean(cells, "db") - before
        rows.append(
            [
                method.replace("_", " "),
                f"{mean(cells, 'db').mean():.2f}",
                spread(gain, [np.mean(cell["db"]) - before.mean() for cell in cells]),
                f"{mean(cells, 'ssim').mean():.3f}",
                f"{(mean(cells, 'ssim') - similar).mean():+.3f}",
                *(f"{gain[bins == each].mean():+.2f}" if (bins == each).any() else "" for each in _bins()),
            ]
        )

    def ahead(method: str) -> Floats:
        return mean(results["ours"], "db") - mean(results[method], "db")

    def told(method: str) -> str:
        low, high = mean_interval(ahead(method), seed=0)
        return f"{ahead(method).mean():+.2f} dB ({low:+.2f} to {high:+.2f}) against {method.replace('_', ' ')}"

    over_lucy = float(ahead("richardson_lucy").mean())
    others = ("richardson_lucy", "richardson_lucy_by_signal", "wiener", "deconvolved", "u_net")
    counts = ", ".join(f"{int((bins == each).sum())} at {_bin(each)}" for each in _bins())
    remark = (
        f"{made}. Test galaxies: {counts}; intervals are 95 % bootstrap over them (means over seeds), the spread in "
        "brackets is that of the seeds. Truth: no noise, the survey's best seeing. All methods know kernel and noise; "
        "`deconvolved` is what both networks start from, `by signal` has pedestal and iterations for each bin of S/N. "
        f"Ours: {', '.join(told(method) for method in others)}."
    )
    bench.table("Restoration of simulated fluxes", head, rows, remark)
    bench.report("restoration_gain_db", over_lucy, "dB over Richardson-Lucy", f">= {GOAL_DB}", over_lucy >= GOAL_DB)


def tell_bias(bench: Workbench, errors: Mapping[str, Mapping[str, Floats]], signal: Floats) -> None:
    """The table of `biases` by S/N."""
    bins = np.digitize(signal, EDGES[1:-1])
    rows = [
        [
            quantity.replace("_", " "),
            method.replace("_", " "),
            *(_median(values[bins == each]) for each in _bins()),
        ]
        for quantity, methods in errors.items()
        for method, values in methods.items()
    ]
    remark = (
        "Medians with 95 % bootstrap intervals, in r: flux within 3 arcsec and radius of half of it, relative; "
        "axis ratio (second moments under a Gaussian window of 1.5 arcsec), a difference; against the same "
        "measurement on the truth. S/N is that of the flux within 3 arcsec of the degraded stamp."
    )
    bench.table(
        "Bias of what is measured on restored fluxes", ["quantity", "method", *map(_bin, _bins())], rows, remark
    )


def _bins() -> range:
    return range(len(EDGES) - 1)


def _bin(each: int) -> str:
    low, high = EDGES[each], EDGES[each + 1]
    return f"S/N > {low:g}" if np.isinf(high) else f"S/N {low:g}-{high:g}"


def spread(gain: Floats, of_seeds: Sequence[float]) -> str:
    """Mean of (N,) gains with its 95 % interval, and the standard deviation of the seeds' means."""
    low, high = mean_interval(gain, seed=0)
    seeds = f" [±{np.std(of_seeds, ddof=1):.2f}]" if len(of_seeds) > 1 else ""
    return f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f}){seeds}"


def _median(values: Floats) -> str:
    kept = values[np.isfinite(values)]
    if not len(kept):
        return ""
    low, high = bootstrap_interval(lambda x: float(np.median(x)), kept, seed=0, draws=500)
    return f"{np.median(kept):+.3f} ({low:+.3f} to {high:+.3f})"
