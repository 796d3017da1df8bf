"""Trains a tiny model; as a script, in a process that is killed after a step: `train_in_process.py FOLDER STEP`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.training import Progress, fit

STEPS = 8


def batches_from(start: int) -> Iterator[dict[str, torch.Tensor]]:
    step = start
    while True:
        generator = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (4, 3, 48, 48), generator=generator, dtype=torch.uint8)
        yield {"images": images, "rows": torch.arange(4)}
        step += 1


def train(folder: Path, progress: Progress | None = None) -> GalaxyLVM:
    torch.manual_seed(0)
    network = GalaxyLVM(LvmConfiguration(8, (2, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), drop_path=0.1))
    inputs = InputSpec(("g", "r", "z"), 48, 32, 1, (0.2, 0.3), True)
    objective = MaskedReconstruction(
        network, inputs, "rgb", mask_patch=8, mask_fraction=0.5, augmentation=Augmentation()
    )
    fit(
        objective,
        batches_from,
        steps=STEPS,
        folder=folder,
        checkpoint_steps=4,
        learning_rate=1e-3,
        weight_decay=0.05,
        seed=0,
        progress=progress,
    )
    return network


def main(folder: Path, last: int) -> None:
    def tell(done: int, total: int, note: str = "") -> None:
        print(f"step {done} of {total} {note}", flush=True)
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    train(folder, tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
