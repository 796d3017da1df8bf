"""Restoration of simulated fluxes, whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tests.evidence import image_measures
from tests.evidence.deconvolution import RichardsonLucy, Wiener, restored
from tests.evidence.restoration_methods import (
    NETWORKS,
    TEST_SEED,
    VALIDATION_SEED,
    Trainer,
    chosen,
    chosen_rate,
    richardson_lucys,
)
from tests.evidence.restoration_plots import plot_bias, plot_examples
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import FluxSpace, Pairs, Space, apply
from tests.evidence.restoration_tables import EDGES, biases, tell_bias, tell_fluxes
from tests.evidence.simulated import drawn, sharp_stamp
from tests.evidence.workbench import Workbench

DIMMED = 3.0
"""Magnitudes by which galaxies are dimmed at most: the simulated ones are brighter than most of the survey's."""

FIRST_TRAIN, FIRST_VALIDATION, FIRST_TEST = 0, 1_000_000, 2_000_000
"""Numbers of the simulated objects: splits share none."""

SHOWN = 4
"""Test stamps in the picture."""


def simulated_pairs(bench: Workbench, sizes: Sizes, first: int, count: int, seed: int) -> Pairs:
    """Degraded once and for all."""
    images = torch.from_numpy(drawn(bench.folder, sharp_stamp, first, count, sizes.size)["flux"])
    return FluxSpace(DIMMED).pairs(images, torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Flux:
    """What later sections need of the one on fluxes: the classical choices, and a way to the trained networks."""

    classical: RichardsonLucy
    network: Callable[[str, int], nn.Module]


def measure_fluxes(bench: Workbench, sizes: Sizes) -> Flux:
    """All methods on the same simulated test stamps; the figure, two tables and both pictures."""
    space = FluxSpace(DIMMED)
    training = torch.from_numpy(drawn(bench.folder, sharp_stamp, FIRST_TRAIN, sizes.train, sizes.size)["flux"])
    validation = simulated_pairs(bench, sizes, FIRST_VALIDATION, sizes.validation, VALIDATION_SEED)
    test = simulated_pairs(bench, sizes, FIRST_TEST, sizes.test, TEST_SEED)
    signal = image_measures.aperture_signal_to_noise(test.sharp[:, 1], test.degradation.noise[:, 1])
    data = {"size": sizes.size, "test": sizes.test, "dimmed": DIMMED}

    tuned = validation.part(slice(sizes.tuned))
    lucy = chosen(bench, space, tuned, richardson_lucys(sizes), section="flux", **data)
    wiener = chosen(bench, space, tuned, [Wiener(b) for b in sizes.balances], section="flux", **data)
    by_signal = _chosen_by_signal(bench, space, tuned, sizes, data)

    def judged(images: torch.Tensor) -> dict[str, Any]:
        return _judged(space, images, test)

    results: dict[str, list[dict[str, Any]]] = {
        "degraded": [bench.cell(lambda: judged(test.degraded), section="flux", method="degraded", **data)],
        "wiener": [
            bench.cell(
                lambda: judged(restored(wiener, test.degraded, test.degradation)),
                section="flux",
                method=repr(wiener),
                **data,
            )
        ],
        "richardson_lucy": [
            bench.cell(
                lambda: judged(restored(lucy, test.degraded, test.degradation)),
                section="flux",
                method=repr(lucy),
                **data,
            )
        ],
        "richardson_lucy_by_signal": [
            bench.cell(
                lambda: judged(_by_signal(by_signal, test, signal)),
                section="flux",
                method=[repr(each) for each in by_signal],
                **data,
            )
        ],
        "deconvolved": [
            bench.cell(
                lambda: judged(space.restore(lambda values: values, test)),
                section="flux",
                method="our deconvolution alone",
                **data,
            )
        ],
    }
    trainer = Trainer(bench, "flux", space, training, sizes)
    training_key = {"train": sizes.train, "batch": sizes.batch}
    rates = {
        name: chosen_rate(trainer, validation, name, section="flux", steps=sizes.rate_steps, **data, **training_key)
        for name in NETWORKS
    }

    def network(name: str, seed: int) -> nn.Module:
        return trainer.network(name, seed, sizes.steps, rates[name])

    for name in NETWORKS:
        results[name] = [
            bench.cell(
                lambda name=name, seed=seed: judged(apply(network(name, seed), space, test)),  # type: ignore[misc]
                section="flux",
                method=name,
                seed=seed,
                steps=sizes.steps,
                rate=rates[name],
                **data,
                **training_key,
            )
            for seed in sizes.seeds
        ]
    parameters = {name: sum(weight.numel() for weight in trainer.untrained(name, 0).parameters()) for name in NETWORKS}
    made = (
        f"{sizes.test} simulated test galaxies of {sizes.size} px, {sizes.train} training galaxies, "
        f"{sizes.steps} steps of {sizes.batch}, seeds {list(sizes.seeds)}. "
        f"Chosen on validation: {lucy}, {wiener}, learning rates {rates}; "
        f"by S/N: {[str(each) for each in by_signal]}. Parameters: {parameters}"
    )
    tell_fluxes(bench, results, signal, made)
    errors = biases(results, test)
    tell_bias(bench, errors, signal)
    plot_bias(bench, errors, signal, EDGES)
    columns = {"degraded": "degraded", "Richardson-Lucy": "richardson_lucy", "U-Net": "u_net", "ours": "ours"}
    shown = {label: torch.tensor(results[method][0]["shown"]) for label, method in columns.items()}
    plot_examples(bench, {"truth": test.sharp[:SHOWN, 1], **shown}, signal[:SHOWN])
    return Flux(lucy, network)


def _chosen_by_signal(
    bench: Workbench, space: Space, pairs: Pairs, sizes: Sizes, data: dict[str, Any]
) -> list[RichardsonLucy]:
    """One choice for each bin of S/N: more than the best iteration number, for whoever knows how bright a galaxy is."""
    candidates = richardson_lucys(sizes)
    table = np.array(
        [
            bench.cell(dict, choosing=repr(each), tuned=len(pairs.sharp), section="flux", **data)["db"]
            for each in candidates
        ]
    )
    signal = image_measures.aperture_signal_to_noise(pairs.sharp[:, 1], pairs.degradation.noise[:, 1])
    best = candidates[int(table.mean(axis=1).argmax())]
    bins = np.digitize(signal, EDGES[1:-1])
    return [
        candidates[int(table[:, bins == each].mean(axis=1).argmax())] if (bins == each).any() else best
        for each in range(len(EDGES) - 1)
    ]


def _by_signal(choices: Sequence[RichardsonLucy], pairs: Pairs, signal: NDArray[np.float64]) -> torch.Tensor:
    bins = np.digitize(signal, EDGES[1:-1])
    rows = [
        restored(choices[bins[row]], pairs.degraded[row : row + 1], pairs.part(slice(row, row + 1)).degradation)
        for row in range(len(signal))
    ]
    return torch.cat(rows)


def _judged(space: Space, images: torch.Tensor, pairs: Pairs) -> dict[str, Any]:
    """Per-stamp PSNR and SSIM, what is measured in the middle band, and some stamps of it to be shown."""
    return {
        "db": space.decibels(images, pairs.sharp).round(4).tolist(),
        "ssim": space.similarity(images, pairs.sharp).round(5).tolist(),
        **{name: values.tolist() for name, values in image_measures.measured(images[:, 1]).items()},
        "shown": images[:SHOWN, 1].numpy().round(5).tolist(),
    }
