"""The work on one shard, done in any process: its measures, and its pixel counts. What is finished is kept."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from infra.cluster import Workers
from infra.stage_folder import write_atomic
from tasks.preprocess.measure import measure_stamps
from tasks.preprocess.statistics import pixel_counts
from tasks.preprocess.version import MEASURES_VERSION
from tasks.stamps.dataset import StampDataset
from tasks.stamps.stamp import VALID

SELECTION = "selection.npy"

Report = Callable[[int, int, str], None]


def measure_dataset(dataset: StampDataset, folder: Path, workers: Workers, report: Report) -> pd.DataFrame:
    """Measures of every row, in the dataset's order; NaN for rows without a stamp.

    Pieces that lie in `folder` from an earlier start are taken as they are.
    """
    pieces = folder / f"measures-{MEASURES_VERSION}-{dataset.digest[:12]}"
    work = partial(measure_shard, root=dataset.root, pieces=pieces)
    _finish(range(len(dataset.shards)), pieces, work, workers, report)
    tables = [pd.read_parquet(_piece(pieces, shard)) for shard in range(len(dataset.shards))]
    return pd.concat(tables, ignore_index=True)


def measure_shard(shard: int, root: str, pieces: Path) -> int:
    """Measure one shard's stamps and keep the table; returns how many there were."""
    dataset = StampDataset.open(root)
    valid = dataset.states[dataset.shards[shard].rows] == VALID
    invvar = dataset.read_shard(shard, "invvar")[valid] if dataset.has("invvar") else None
    table = measure_stamps(dataset.read_shard(shard)[valid], dataset.units, dataset.bands, invvar)
    table.index = pd.Index(np.flatnonzero(valid))
    content = io.BytesIO()
    table.reindex(range(len(valid))).to_parquet(content, index=False)
    write_atomic(_piece(pieces, shard), content.getvalue())
    return int(valid.sum())


def count_pixels(
    dataset: StampDataset, rows: np.ndarray, folder: Path, workers: Workers, report: Report
) -> dict[str, np.ndarray]:
    """Source to (C, V) pixel counts over some rows (see `pixel_counts`); pieces in `folder` are kept and used."""
    names, codes = np.unique(dataset.column("source").to_numpy(np.str_), return_inverse=True)
    selection = np.full(len(dataset), -1, np.int16)  # index of the source, -1 where the row is not counted
    selection[rows] = codes.reshape(-1)[rows]
    key = hashlib.sha256(dataset.digest.encode() + selection.tobytes()).hexdigest()
    pieces = folder / f"counts-{key[:12]}"
    content = io.BytesIO()
    np.save(content, selection)
    write_atomic(pieces / SELECTION, content.getvalue())
    shards = [i for i, shard in enumerate(dataset.shards) if (selection[shard.rows] >= 0).any()]
    work = partial(count_shard, root=dataset.root, pieces=pieces, sources=len(names))
    _finish(shards, pieces, work, workers, report)

    values = 256 if dataset.units == "rgb" else 65536
    totals = np.zeros((len(names), len(dataset.bands), values), np.int64)
    for shard in shards:
        piece = pd.read_parquet(_piece(pieces, shard))
        np.add.at(totals, (piece["source"], piece["band"], piece["value"]), piece["count"])
    return {str(name): total for name, total in zip(names, totals, strict=True) if total.any()}


def count_shard(shard: int, root: str, pieces: Path, sources: int) -> int:
    """Count the pixels of one shard's selected rows, by source, and keep the table; returns the number of stamps."""
    dataset = StampDataset.open(root)
    chosen = np.load(pieces / SELECTION, mmap_mode="r")[dataset.shards[shard].rows]
    images = dataset.read_shard(shard)
    tables = []
    for source in range(sources):
        if (chosen == source).any():
            counts = pixel_counts(images[chosen == source])
            band, value = np.nonzero(counts)
            tables.append(pd.DataFrame({"source": source, "band": band, "value": value, "count": counts[band, value]}))
    content = io.BytesIO()
    pd.concat(tables).to_parquet(content, index=False)
    write_atomic(_piece(pieces, shard), content.getvalue())
    return int((chosen >= 0).sum())


def _finish(
    shards: Sequence[int],
    pieces: Path,
    work: Callable[[int], int],
    workers: Workers,
    report: Report,
) -> None:
    pending = [shard for shard in shards if not _piece(pieces, shard).exists()]
    done = len(shards) - len(pending)
    if done:
        report(done, len(shards), f"{done} of {len(shards)} shards were done already")
    for shard, _ in workers.map(work, pending) if pending else ():
        done += 1
        report(done, len(shards), f"shard {shard}")


def _piece(pieces: Path, shard: int) -> Path:
    return pieces / f"{shard:06d}.parquet"
