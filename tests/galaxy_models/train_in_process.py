"""Trains a model in a process of its own: `train_in_process.py FOLDER OPTIONS`, the options in JSON.

Under torchrun each process trains its part. After step `stop` the first one ends by `signal`, if that is given.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import PRESETS, GalaxyLVM, LvmConfiguration
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.training import History, Interrupted, Progress, fit, this_process

STEPS = 8
TINY = LvmConfiguration(8, (2, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), drop_path=0.1)


def batches_from(first: int, stamps: int, size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of noise; batch b is a function of b."""
    processes = this_process()
    number = first + processes.rank
    while True:
        generator = torch.Generator().manual_seed(number)
        images = torch.randint(0, 256, (stamps, 3, size, size), generator=generator, dtype=torch.uint8)
        yield {"images": images, "rows": torch.arange(stamps)}
        number += processes.count


def train(
    folder: Path,
    progress: Progress | None = None,
    *,
    preset: str = "",
    stamps: int = 4,
    size: int = 32,
    steps: int = STEPS,
    checkpoint_steps: int = 4,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> tuple[GalaxyLVM, History]:
    """The trained network and the points of the run."""
    torch.manual_seed(0)
    network = GalaxyLVM(PRESETS[preset] if preset else TINY)
    inputs = InputSpec(("g", "r", "z"), size + 16, size, 1, (0.2, 0.3), True)
    objective = MaskedReconstruction(
        network, inputs, "rgb", mask_patch=8, mask_fraction=0.5, augmentation=Augmentation()
    )
    history = fit(
        objective,
        lambda first: batches_from(first, stamps, size + 16),
        steps=steps,
        folder=folder,
        checkpoint_steps=checkpoint_steps,
        learning_rate=1e-3,
        weight_decay=0.05,
        seed=0,
        accumulate=accumulate,
        ema_decay=ema_decay,
        record_steps=1,
        progress=progress,
        device="cpu",
    )
    return network, history


def main(folder: Path, stop: int = 0, signal_number: int = signal.SIGKILL, **options: object) -> None:
    def tell(done: int, total: int, note: str = "") -> None:
        print(f"step {done} of {total} {note}", flush=True)
        if done == stop:
            os.kill(os.getpid(), signal_number)

    try:
        train(folder, tell, **options)  # type: ignore[arg-type]
    except Interrupted as stopped:
        print(stopped, flush=True)
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
