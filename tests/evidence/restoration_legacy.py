"""The same networks on real fluxes of the Legacy Surveys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from galaxy_models.metrics import mean_interval
from tests.evidence.deconvolution import restored
from tests.evidence.legacy_fits import legacy_patches
from tests.evidence.restoration_fluxes import Flux
from tests.evidence.restoration_methods import LEGACY_SEED, NETWORKS
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import FluxSpace, Pairs, apply
from tests.evidence.workbench import Workbench

HEADINGS = ("PSNR, dB,", "SSIM,")


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

        def measure(space: FluxSpace = space, pairs: Pairs = pairs) -> dict[str, dict[str, list[float]]]:
            images = {
                "degraded": [pairs.degraded],
                "richardson_lucy": [restored(flux.classical, pairs.degraded, pairs.degradation)],
                **{
                    network: [apply(flux.network(network, seed), space, pairs) for seed in sizes.seeds]
                    for network in NETWORKS
                },
            }
            return {
                method: {
                    "db": np.mean([space.decibels(each, pairs.sharp) for each in every], axis=0).tolist(),
                    "ssim": np.mean([space.similarity(each, pairs.sharp) for each in every], axis=0).tolist(),
                }
                for method, every in images.items()
            }

        result = bench.cell(
            measure,
            section="legacy_fits",
            image=name,
            size=sizes.size,
            steps=sizes.steps,
            seeds=list(sizes.seeds),
            of=["db", "ssim"],
        )
        rows.append([name, *told(result)])
    remark = (
        "Real fluxes degraded further by known kernels; the reference has the survey's own noise and seeing, so that "
        "no method can come near it where that noise rules. Networks and Richardson-Lucy are those of the simulation; "
        "networks are means over seeds, intervals 95 % bootstrap over the patches of an image, which are few and "
        "neighbours. Three images say that it works, not how well."
    )
    methods = ("Richardson-Lucy", "ours", "U-Net")
    head = ["image", "patches", *(f"{what} {of}" for what in HEADINGS for of in ("degraded", *methods))]
    bench.table("Restoration of real Legacy Surveys fluxes: gains", head, rows, remark)


def told(result: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Cells of an image's row: patches, then of PSNR and of SSIM what the degraded have and what each method gains."""
    cells = [str(len(result["degraded"]["db"]))]
    for measure, digits in (("db", 2), ("ssim", 3)):
        before = np.asarray(result["degraded"][measure])
        cells.append(f"{before.mean():.{digits}f}")
        for method in ("richardson_lucy", *NETWORKS):
            gain = np.asarray(result[method][measure]) - before
            low, high = mean_interval(gain, seed=0)
            cells.append(f"{gain.mean():+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
    return cells
