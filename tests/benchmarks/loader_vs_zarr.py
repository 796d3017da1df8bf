"""Images a second of the loader into torch batches, over reads of whole shards with Zarr alone."""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import zarr

from tasks.stamps.dataset import publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.loader import StampBatches
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.stamp import Stamp
from tests.benchmarks.result import report

STAMPS, BANDS, SIZE = 4096, ("g", "r", "z"), 96
SHARD, CHUNK, BATCH = 512, 16, 128
ROUNDS = 15


def make_store(root: Path, stamps: int = STAMPS, size: int = SIZE) -> None:
    """A finished dataset of sky noise in float16."""
    layout = StampLayout(stamps, BANDS, size, "nanomaggy", SHARD, CHUNK)
    plan = pd.DataFrame({"object_id": [f"noise-{i:05d}" for i in range(stamps)], "source": "noise"})
    counts = {"input": stamps, "refused": 0}
    part = Part.create(
        root / "parts/0000", layout, one_piece(plan), pd.DataFrame(columns=list(QUARANTINE_COLUMNS)), counts, {}, ""
    )
    for shard in part.pending():
        noise = np.random.default_rng(shard).normal(0, 0.01, (SHARD, *layout.stamp_shape)).astype(np.float16)
        part.load([shard], partial(_stamps, noise))
    part.finalise(lambda merged: (merged, pd.DataFrame(columns=list(QUARANTINE_COLUMNS))))
    publish(root, ["parts/0000"])


def _stamps(noise: np.ndarray, rows: pd.DataFrame) -> list[Stamp]:
    return [Stamp(image) for image in noise[: len(rows)]]


def zarr_alone(root: Path) -> float:
    """Images a second of whole-shard reads, nothing done with them; opening does not count."""
    images = zarr.open_group(root / "parts/0000/stamps.zarr", mode="r")["images"]
    assert isinstance(images, zarr.Array)
    started = time.perf_counter()
    read = sum(len(np.asarray(images[first : first + SHARD])) for first in range(0, STAMPS, SHARD))
    return read / (time.perf_counter() - started)


def loader(root: Path) -> float:
    """Images a second of shuffled batches with their rows, one epoch, no shard kept from before."""
    batches = StampBatches(root, np.arange(STAMPS), BATCH, seed=0, repeat=False, cache_bytes=0)
    started = time.perf_counter()
    read = sum(len(batch["images"]) for batch in batches)
    return read / (time.perf_counter() - started)


def main() -> None:
    """Both in turns, so that a busy machine slows both; the first round also verifies every checksum."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_store(root)
        zarr_alone(root)  # the page cache is warm for both
        ratios = []
        for turn in range(ROUNDS):
            pair = (loader, zarr_alone) if turn % 2 else (zarr_alone, loader)
            speeds = {measure: measure(root) for measure in pair}
            ratios.append(speeds[loader] / speeds[zarr_alone])
    ratio = statistics.median(ratios)
    report("loader_vs_zarr", ratio, "ratio", ">= 0.8", ratio >= 0.8)


if __name__ == "__main__":
    main()
