"""What was found round by round, a small picture for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np

from tests.evidence.search_loop import ROUNDS, mean_curve
from tests.evidence.search_strategies import OURS, STRATEGIES
from tests.evidence.search_targets import Target
from tests.evidence.workbench import Workbench

COLUMNS = 5


def plot_found(
    bench: Workbench,
    targets: Sequence[Target],
    curves: Callable[[str, str], Sequence[dict[str, list[float]]] | None],
) -> None:
    """Write `pictures/search.png`.

    Parameters
    ----------
    curves
        (target, strategy) to the searches by seed, None where there are none.
    """
    lines = -(-len(targets) // COLUMNS)
    figure, grid = plt.subplots(lines, COLUMNS, figsize=(13, 2.7 * lines), sharex=True, layout="constrained")
    for axes, target in zip(grid.flat, targets, strict=False):
        for strategy in STRATEGIES:
            of = curves(target.name, strategy)
            if of:
                found = mean_curve(of, "found")
                axes.plot(np.arange(len(found)), found, label=strategy, lw=2.5 if strategy == OURS else 1.2)
        of = curves(target.name, OURS)
        if of:
            axes.plot(mean_curve(of, "possible"), color="grey", ls=":", lw=1, label="could have been")
        axes.set_title(f"{target.name}: {target.members} of {len(target.rows)}", fontsize=9)
        axes.set(ylim=(0, 1.02), xticks=range(0, ROUNDS + 1, 2))
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(targets) :]:
        axes.set_axis_off()
    grid.flat[0].legend(fontsize=6)
    figure.supxlabel("rounds of 16 galaxies, after three examples", fontsize=10)
    figure.supylabel("share of the members found", fontsize=10)
    figure.savefig(bench.picture("search.png"), dpi=110)
    plt.close(figure)
