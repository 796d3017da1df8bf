"""Pictures of the restoration: simulated galaxies only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray
from torch import Tensor

from tests.evidence.workbench import Workbench

matplotlib.use("agg")
import matplotlib.pyplot as plt

Floats = NDArray[np.float64]

LABELS = {
    "flux": 'flux within 3", relative error',
    "radius": "half-light radius, relative error",
    "axis_ratio": "axis ratio, error",
}
STYLES = {
    "degraded": ("0.6", "o", "degraded"),
    "richardson_lucy": ("tab:orange", "s", "Richardson-Lucy"),
    "u_net": ("tab:green", "^", "U-Net"),
    "ours": ("tab:blue", "D", "ours"),
}


def plot_bias(
    bench: Workbench, biases: Mapping[str, Mapping[str, Floats]], signal: Floats, edges: Sequence[float]
) -> None:
    """Median errors by S/N with the range of the middle two thirds, into `pictures/restoration.png`."""
    bins = np.digitize(signal, edges[1:-1])
    figure, axes = plt.subplots(1, len(biases), figsize=(4.2 * len(biases), 3.6), layout="constrained")
    for axis, (quantity, methods) in zip(axes, biases.items(), strict=True):
        for shift, (method, (colour, marker, label)) in enumerate(STYLES.items()):
            filled = [each for each in range(len(edges) - 1) if np.isfinite(methods[method][bins == each]).any()]
            values = [methods[method][bins == each] for each in filled]
            low, middle, high = (np.array([np.nanpercentile(v, p) for v in values]) for p in (16, 50, 84))
            place = np.array([np.median(signal[bins == each]) for each in filled]) * 1.06 ** (shift - 1.5)
            axis.errorbar(
                place,
                middle,
                (middle - low, high - middle),
                color=colour,
                marker=marker,
                label=label,
                capsize=2,
                ls="-",
            )
        axis.axhline(0, color="0.3", lw=0.8)
        axis.set(xscale="log", xlabel='S/N in r within 3"', ylabel=LABELS[quantity])
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=8)
    _save(figure, bench.picture("restoration.png"))


def plot_examples(bench: Workbench, columns: Mapping[str, Tensor], signal: Floats) -> None:
    """Simulated galaxies in r, a row each and a column for each (n, h, w); `pictures/restoration_examples.png`."""
    count = len(signal)
    figure, axes = plt.subplots(
        count, len(columns), figsize=(1.9 * len(columns), 2 * count), layout="constrained", squeeze=False
    )
    truth = next(iter(columns.values()))
    for row in range(count):
        limit = float(truth[row].max())
        for axis, (name, images) in zip(axes[row], columns.items(), strict=True):
            axis.imshow(np.arcsinh(images[row].numpy() / (0.02 * limit)), vmin=-0.5, vmax=np.arcsinh(50), cmap="magma")
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(name, fontsize=9)
        axes[row, 0].set_ylabel(f"S/N {signal[row]:.0f}", fontsize=9)
    _save(figure, bench.picture("restoration_examples.png"))


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
