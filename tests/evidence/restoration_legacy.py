"""The same networks on real fluxes of the Legacy Surveys."""

from __future__ import annotations

import numpy as np
import torch

from tests.evidence.deconvolution import restored
from tests.evidence.legacy_fits import legacy_patches
from tests.evidence.restoration_fluxes import Flux
from tests.evidence.restoration_methods import LEGACY_SEED, NETWORKS
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import FluxSpace, Pairs, apply
from tests.evidence.workbench import Workbench


def measure_legacy(bench: Workbench, sizes: Sizes, flux: Flux) -> None:
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
