"""Share of a training step in which the trainer waits for stamps: pre-training of `nano` from a stamp store."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import build_lvm
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.training import fit
from infra.profile import PretrainSettings
from tasks.train.stamp_batches import stamp_batches
from tests.benchmarks.loader_vs_zarr import BANDS, SIZE, STAMPS, make_store
from tests.benchmarks.result import report

STEPS = 60
WARM = 5
"""Steps that do not count: the readers start, and the first shards are verified."""

SETTINGS = PretrainSettings(preset="nano", batch_size=32, crop=SIZE, binning=1, mask_patch=8)
GOAL = 0.05


class Clock:
    """Seconds spent between a wish for a batch and the batch, from step `WARM` on."""

    def __init__(self) -> None:
        self.waited = 0.0
        self.started = 0.0
        self.ended = 0.0

    def timed(self, batches: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same batches."""
        iterator = iter(batches)
        for step in range(STEPS):
            before = time.perf_counter()
            if step == WARM:
                self.started = before
            batch = next(iterator)
            if step >= WARM:
                self.waited += time.perf_counter() - before
            yield batch

    def tell(self, done: int, total: int, note: str = "") -> None:
        """Note the end of the step."""
        self.ended = time.perf_counter()

    @property
    def share(self) -> float:
        """Of the time from the first step that counts to the end of the last."""
        return self.waited / (self.ended - self.started)


def waiting_share(root: Path, folder: Path, workers: int) -> float:
    """Train with so many reading processes."""
    settings = SETTINGS.model_copy(update={"loader_workers": workers})
    inputs = InputSpec(BANDS, SIZE, settings.crop, settings.binning, (0.2, 0.3), True)
    objective = MaskedReconstruction(
        build_lvm(settings.preset),
        inputs,
        "nanomaggy",
        mask_patch=settings.mask_patch,
        mask_fraction=settings.mask_fraction,
        augmentation=Augmentation(),
    )
    clock = Clock()
    fit(
        objective,
        lambda first: clock.timed(stamp_batches(str(root), np.arange(STAMPS), settings, first)),
        steps=STEPS,
        folder=folder,
        checkpoint_steps=STEPS,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        progress=clock.tell,
    )
    return clock.share


def main() -> None:
    """With the laptop's setting, where the trainer reads for itself, and with one reader beside it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        make_store(root)
        for workers, name in ((0, "loader_wait"), (1, "loader_wait_1_worker")):
            share = waiting_share(root, Path(folder) / name, workers)
            report(name, share, "share of a step", f"< {GOAL}", share < GOAL)


if __name__ == "__main__":
    main()
