"""Restoration against Richardson-Lucy with the known PSF and a plain U-Net: on fluxes, and in display space.

What the papers do not tell is ours: simulated galaxies under the survey's best seeing and without noise are the truth;
they are dimmed by up to three magnitudes, blurred and made noisy as fine-tuning does it, and every method on fluxes is
told the kernel and the noise. PSNR is per band, with the truth's brightest pixel for the peak; mean of g, r and z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from galaxy_models.lvm import build_lvm
from galaxy_models.multitask import MultiTaskNetwork
from tests.evidence import image_measures
from tests.evidence.deconvolution import RichardsonLucy, Wiener, restored
from tests.evidence.legacy_fits import legacy_patches
from tests.evidence.restoration_plots import plot_bias, plot_examples
from tests.evidence.restoration_spaces import DisplaySpace, FluxSpace, Pairs, Space, apply, train
from tests.evidence.restoration_tables import EDGES, biases, mean, spread, tell_bias, tell_fluxes
from tests.evidence.simulated import drawn, sharp_stamp
from tests.evidence.stamps import INPUTS, real_stamps
from tests.evidence.unet import PlainUNet
from tests.evidence.workbench import Workbench

DIMMED = 3.0
"""Magnitudes by which galaxies are dimmed at most: the simulated ones are brighter than most of the survey's."""

FIRST_TRAIN, FIRST_VALIDATION, FIRST_TEST = 0, 1_000_000, 2_000_000
"""Numbers of the simulated objects: splits share none."""

SHOWN = 4
"""Test stamps in the picture."""

VALIDATION_SEED, TEST_SEED, LEGACY_SEED = 71, 72, 73
NETWORKS = ("ours", "u_net")


@dataclass(frozen=True)
class Sizes:
    """How much is simulated, trained and measured.

    Attributes
    ----------
    tuned
        Validation stamps that classical methods choose their numbers on.
    rates, rate_steps
        Learning rates that each network chooses from on validation stamps, and the steps of those trials.
    pictures, picture_steps, picture_seeds
        The same for display space: training pictures, steps and seeds.
    """

    size: int = 64
    train: int = 800
    validation: int = 60
    test: int = 120
    tuned: int = 16
    batch: int = 8
    steps: int = 240
    rate_steps: int = 60
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (1e-3, 3e-3)
    pedestals: tuple[float, ...] = (0.3, 1.0, 3.0)
    iterations: tuple[int, ...] = (2, 4, 8, 16, 32)
    balances: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    unet_width: int = 26
    pictures: int = 600
    test_pictures: int = 100
    picture_steps: int = 60
    picture_seeds: tuple[int, ...] = (0,)


SMALL = Sizes()
FULL = Sizes(
    size=128,
    train=40_000,
    validation=500,
    test=2000,
    tuned=200,
    batch=32,
    steps=30_000,
    rate_steps=3000,
    seeds=(0, 1, 2, 3, 4),
    rates=(3e-4, 1e-3, 3e-3),
    pedestals=(0.1, 0.3, 1.0, 3.0, 10.0),
    iterations=(1, 2, 4, 8, 16, 32, 64, 128),
    balances=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    pictures=1_000_000,
    test_pictures=1_000_000,
    picture_steps=10_000,
    picture_seeds=(0, 1, 2, 3, 4),
)


def run(bench: Workbench) -> None:
    """Measure all methods on the same test stamps; print the figure, keep tables and pictures."""
    sizes = FULL if bench.full else SMALL
    flux = _flux(bench, sizes)
    _legacy(bench, sizes, flux)
    _display(bench, sizes)


# --- fluxes -----------------------------------------------------------------------------------------------------------


def simulated_pairs(bench: Workbench, sizes: Sizes, first: int, count: int, seed: int) -> Pairs:
    """Degraded once and for all."""
    images = torch.from_numpy(drawn(bench.folder, sharp_stamp, first, count, sizes.size)["flux"])
    return FluxSpace(DIMMED).pairs(images, torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Flux:
    """What later sections need of the one on fluxes: the classical choices, and a way to the trained networks."""

    classical: RichardsonLucy
    network: Callable[[str, int], nn.Module]


def _flux(bench: Workbench, sizes: Sizes) -> Flux:
    space = FluxSpace(DIMMED)
    training = torch.from_numpy(drawn(bench.folder, sharp_stamp, FIRST_TRAIN, sizes.train, sizes.size)["flux"])
    validation = simulated_pairs(bench, sizes, FIRST_VALIDATION, sizes.validation, VALIDATION_SEED)
    test = simulated_pairs(bench, sizes, FIRST_TEST, sizes.test, TEST_SEED)
    signal = image_measures.aperture_signal_to_noise(test.sharp[:, 1], test.degradation.noise[:, 1])
    data = {"size": sizes.size, "test": sizes.test, "dimmed": DIMMED}

    tuned = validation.part(slice(sizes.tuned))
    lucy = _chosen(
        bench,
        space,
        tuned,
        [RichardsonLucy(p, i) for p in sizes.pedestals for i in sizes.iterations],
        section="flux",
        **data,
    )
    wiener = _chosen(bench, space, tuned, [Wiener(b) for b in sizes.balances], section="flux", **data)
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
    statistics = _statistics(space, training)

    def trained(name: str, seed: int, steps: int, rate: float) -> nn.Module:
        network = _network(name, statistics, seed, sizes)
        folder = bench.folder / "training" / f"flux-{name}-{seed}-{steps}-{rate:g}-{bench.code}"
        train(network, space, training, steps=steps, batch=sizes.batch, learning_rate=rate, seed=seed, folder=folder)
        return network

    training_key = {"train": sizes.train, "batch": sizes.batch}
    rates = {
        name: _chosen_rate(
            bench,
            space,
            validation,
            sizes,
            name,
            trained,
            section="flux",
            steps=sizes.rate_steps,
            **data,
            **training_key,
        )
        for name in NETWORKS
    }

    def network(name: str, seed: int) -> nn.Module:
        return trained(name, seed, sizes.steps, rates[name])

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
    parameters = {
        name: sum(weight.numel() for weight in _network(name, statistics, 0, sizes).parameters()) for name in NETWORKS
    }
    made = (
        f"{sizes.test} simulated test galaxies of {sizes.size} px, {sizes.train} training galaxies, "
        f"{sizes.steps} steps of {sizes.batch}, seeds {list(sizes.seeds)}. "
        f"Chosen on validation: {lucy}, {wiener}, learning rates {rates}; "
        f"by S/N: {[str(each) for each in by_signal]}. Parameters: {parameters}"
    )
    tell_fluxes(bench, results, signal, made)
    errors = biases(results, test)
    tell_bias(bench, errors, signal)
    plot_bias(errors, signal, EDGES)
    columns = {"degraded": "degraded", "Richardson-Lucy": "richardson_lucy", "U-Net": "u_net", "ours": "ours"}
    shown = {label: torch.tensor(results[method][0]["shown"]) for label, method in columns.items()}
    plot_examples({"truth": test.sharp[:SHOWN, 1], **shown}, signal[:SHOWN])
    return Flux(lucy, network)


def _chosen(bench: Workbench, space: Space, pairs: Pairs, candidates: Sequence[Any], **key: Any) -> Any:
    """The candidate of the highest mean PSNR on validation stamps."""
    scores = [
        bench.cell(
            lambda each=each: {  # type: ignore[misc]
                "db": space.decibels(restored(each, pairs.degraded, pairs.degradation), pairs.sharp).tolist()
            },
            choosing=repr(each),
            tuned=len(pairs.sharp),
            **key,
        )
        for each in candidates
    ]
    return candidates[int(np.argmax([np.mean(score["db"]) for score in scores]))]


def _chosen_by_signal(
    bench: Workbench, space: Space, pairs: Pairs, sizes: Sizes, data: dict[str, Any]
) -> list[RichardsonLucy]:
    """One choice for each bin of S/N: more than the best iteration number, for whoever knows how bright a galaxy is."""
    candidates = [RichardsonLucy(p, i) for p in sizes.pedestals for i in sizes.iterations]
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


def _chosen_rate(
    bench: Workbench,
    space: Space,
    validation: Pairs,
    sizes: Sizes,
    name: str,
    trained: Callable[[str, int, int, float], nn.Module],
    *,
    steps: int,
    **key: Any,
) -> float:
    """The learning rate of the highest mean PSNR on validation stamps after a short training of a seed of its own."""
    scores = []
    for rate in sizes.rates:

        def measure(rate: float = rate) -> dict[str, float]:
            network = trained(name, 1000, steps, rate)
            return {"db": float(space.decibels(apply(network, space, validation), validation.sharp).mean())}

        scores.append(bench.cell(measure, choosing=f"rate of {name}", rate=rate, steps=steps, **key)["db"])
    return sizes.rates[int(np.argmax(scores))]


def _network(name: str, statistics: tuple[torch.Tensor, torch.Tensor], seed: int, sizes: Sizes) -> nn.Module:
    """Untrained, with weights of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name == "u_net":
            return PlainUNet(*statistics, width=sizes.unet_width)
        lvm = build_lvm("nano")
        lvm.set_rgb_statistics(*statistics)
        return MultiTaskNetwork(lvm, ())


def _statistics(space: Space, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (3,) of what networks will see, over some training stamps."""
    values = space.values(space.pairs(images[:256], torch.Generator().manual_seed(0)))
    return values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3))


def _judged(space: Space, images: torch.Tensor, pairs: Pairs) -> dict[str, Any]:
    """Per-stamp PSNR and SSIM, what is measured in the middle band, and some stamps of it to be shown."""
    return {
        "db": space.decibels(images, pairs.sharp).round(4).tolist(),
        "ssim": space.similarity(images, pairs.sharp).round(5).tolist(),
        **{name: values.tolist() for name, values in image_measures.measured(images[:, 1]).items()},
        "shown": images[:SHOWN, 1].numpy().round(5).tolist(),
    }


# --- real fluxes ------------------------------------------------------------------------------------------------------


def _legacy(bench: Workbench, sizes: Sizes, flux: Flux) -> None:
    """The networks of the simulation on real images, degraded further; nothing is trained or chosen on them."""
    found = legacy_patches(sizes.size)
    if found is None:
        bench.say("no folder legacy_fits in the sky folder: real fluxes are left out; set GALAXY_SKY")
        return
    rows = []
    for name, (patches, noise) in found.items():
        space = FluxSpace(0.0, noise)
        pairs = space.pairs(patches, torch.Generator().manual_seed(LEGACY_SEED))

        def measure(space: FluxSpace = space, pairs: Pairs = pairs) -> dict[str, list[float]]:
            images = {
                "degraded": [pairs.degraded],
                "richardson_lucy": [restored(flux.classical, pairs.degraded, pairs.degradation)],
                **{
                    network: [apply(flux.network(network, seed), space, pairs) for seed in sizes.seeds]
                    for network in NETWORKS
                },
            }
            return {
                method: np.mean([space.decibels(each, pairs.sharp) for each in every], axis=0).tolist()
                for method, every in images.items()
            }

        result = bench.cell(
            measure, section="legacy_fits", image=name, size=sizes.size, steps=sizes.steps, seeds=list(sizes.seeds)
        )
        before = np.mean(result["degraded"])
        gains = [f"{np.mean(result[method]) - before:+.2f}" for method in ("richardson_lucy", *NETWORKS)]
        rows.append([name, str(len(result["degraded"])), f"{before:.2f}", *gains])
    remark = (
        "Real fluxes degraded further by known kernels; the reference has the survey's own noise and seeing, so that "
        "no method can come near it where that noise rules. Networks and Richardson-Lucy are those of the simulation. "
        "Three images say that it works, not how well."
    )
    head = ["image", "patches", "degraded, dB", "Richardson-Lucy", "ours", "U-Net"]
    bench.table("Restoration of real Legacy Surveys fluxes: gain, dB", head, rows, remark)


# --- display space ----------------------------------------------------------------------------------------------------


def _display(bench: Workbench, sizes: Sizes) -> None:
    stamps = real_stamps()
    space = DisplaySpace()
    splits = {
        split: _pictures(stamps.images[stamps.rows("gz2", split)[:most]])
        for split, most in (
            ("train", sizes.pictures),
            ("validation", sizes.validation),
            ("test", sizes.test_pictures),
        )
    }
    training = splits["train"]
    validation = space.pairs(splits["validation"], torch.Generator().manual_seed(VALIDATION_SEED))
    test = space.pairs(splits["test"], torch.Generator().manual_seed(TEST_SEED))
    data = {"section": "display", "test": len(test.sharp), "train": len(training)}
    lucy = _chosen(
        bench,
        space,
        validation.part(slice(sizes.tuned)),
        [RichardsonLucy(p, i) for p in sizes.pedestals for i in sizes.iterations],
        **data,
    )
    statistics = _statistics(space, training)

    def trained(name: str, seed: int, steps: int, rate: float) -> nn.Module:
        network = _network(name, statistics, seed, sizes)
        folder = bench.folder / "training" / f"display-{name}-{seed}-{steps}-{rate:g}-{bench.code}"
        train(network, space, training, steps=steps, batch=sizes.batch, learning_rate=rate, seed=seed, folder=folder)
        return network

    def judged(images: torch.Tensor) -> dict[str, Any]:
        images = images.clamp(0, 1)
        return {
            "db": space.decibels(images, test.sharp).tolist(),
            "ssim": space.similarity(images, test.sharp).tolist(),
        }

    results: dict[str, list[dict[str, Any]]] = {
        "degraded": [bench.cell(lambda: judged(test.degraded), method="degraded", **data)],
        "richardson_lucy": [
            bench.cell(lambda: judged(restored(lucy, test.degraded, test.degradation)), method=repr(lucy), **data)
        ],
    }
    for name in NETWORKS:
        rate = _chosen_rate(
            bench, space, validation, sizes, name, trained, steps=max(1, sizes.picture_steps // 3), **data
        )
        results[name] = [
            bench.cell(
                lambda name=name, seed=seed, rate=rate: judged(  # type: ignore[misc]
                    apply(trained(name, seed, sizes.picture_steps, rate), space, test)
                ),
                method=name,
                seed=seed,
                steps=sizes.picture_steps,
                rate=rate,
                **data,
            )
            for seed in sizes.picture_seeds
        ]
    before, similar = mean(results["degraded"], "db"), mean(results["degraded"], "ssim")
    rows = [
        [
            method.replace("_", " "),
            f"{mean(cells, 'db').mean():.2f}",
            spread(mean(cells, "db") - before, [np.mean(cell["db"]) - before.mean() for cell in cells]),
            f"{mean(cells, 'ssim').mean():.3f}",
            f"{(mean(cells, 'ssim') - similar).mean():+.3f}",
        ]
        for method, cells in results.items()
    ]
    remark = (
        f"Pictures of gz2, {len(training)} of the survey's train split, {len(test.sharp)} of its test split, "
        f"{sizes.picture_steps} steps of {sizes.batch}, seeds {list(sizes.picture_seeds)}: a look-alike of seeing and "
        f"noise on display values, no physics. Richardson-Lucy knows the kernel ({lucy}), networks do not."
    )
    bench.table("Restoration in display space", ["method", "PSNR, dB", "gain, dB", "SSIM", "SSIM gain"], rows, remark)


def _pictures(images: NDArray[np.uint8]) -> torch.Tensor:
    return INPUTS.to_network(torch.from_numpy(images), "rgb")
