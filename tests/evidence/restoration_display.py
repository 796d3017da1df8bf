"""Restoration in display space: of pictures, which have no fluxes any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.evidence.deconvolution import restored
from tests.evidence.restoration_methods import (
    NETWORKS,
    TEST_SEED,
    VALIDATION_SEED,
    Trainer,
    chosen,
    chosen_rate,
    richardson_lucys,
)
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import DisplaySpace, apply
from tests.evidence.restoration_tables import mean, spread
from tests.evidence.stamps import INPUTS, real_stamps
from tests.evidence.workbench import Workbench


def measure_display(bench: Workbench, sizes: Sizes) -> None:
    """All methods on the same test pictures, and the table."""
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
    lucy = chosen(bench, space, validation.part(slice(sizes.tuned)), richardson_lucys(sizes), **data)
    trainer = Trainer(bench, "display", space, training, sizes)

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
    rates = {
        name: chosen_rate(trainer, validation, name, steps=max(1, sizes.picture_steps // 3), **data)
        for name in NETWORKS
    }
    for name, rate in rates.items():
        results[name] = [
            bench.cell(
                lambda name=name, seed=seed, rate=rate: judged(  # type: ignore[misc]
                    apply(trainer.network(name, seed, sizes.picture_steps, rate), space, test)
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
        f"noise on display values, no physics. Richardson-Lucy knows the kernel ({lucy}), networks do not. Both "
        f"begin as the identity and have the same steps, too few for either to have learnt all it can; rates {rates}."
    )
    bench.table("Restoration in display space", ["method", "PSNR, dB", "gain, dB", "SSIM", "SSIM gain"], rows, remark)


def _pictures(images: NDArray[np.uint8]) -> torch.Tensor:
    return INPUTS.to_network(torch.from_numpy(images), "rgb")
