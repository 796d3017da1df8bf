"""Batches of stamps for torch, in an order that depends on the seed alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tasks.stamps.dataset import StampDataset


class StampBatches(IterableDataset[dict[str, Tensor]]):
    """Yields `{"images": (B, C, H, W) raw, "rows": (B,) int64}`; every row once per epoch.

    Batch k is a function of (seed, k, rows) alone: a start at batch k gives what an undisturbed run
    gave from there on, with any number of DataLoader workers. Shards are read whole, in an order drawn
    per epoch, and the rows of `buffer_shards` of them are shuffled in memory.

    Workers of a DataLoader must be started by `forkserver` or `spawn`, since Zarr's threads do not
    survive a fork; pass `batch_size=None`, batches come ready.

    Parameters
    ----------
    root
        Folder of the dataset.
    rows
        Catalogue rows to be read; all must be valid.
    repeat
        Go on for ever, a batch may then hold the end of an epoch and the start of the next. Otherwise one
        epoch, and the last batch may be smaller.
    shuffle
        False: the rows in the order given, epoch after epoch.
    every
        Give only every so many-th batch, from `start_batch` on: the share of one of several training processes.
    cache_bytes
        Shards kept in memory for the next epoch, in each process; at least `buffer_shards` are.
    """

    def __init__(
        self,
        root: Path | str,
        rows: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        repeat: bool = True,
        start_batch: int = 0,
        every: int = 1,
        buffer_shards: int = 4,
        cache_bytes: int = 1 << 30,
    ) -> None:
        super().__init__()
        dataset = StampDataset.open(root)
        self.root = str(root)
        self.rows = dataset.check_rows(rows)
        if not len(self.rows):
            raise ValueError(f"no rows of {root} are asked for")
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.repeat = repeat
        self.start_batch = start_batch
        self.every = every
        self.buffer_shards = buffer_shards
        self.cache_bytes = cache_bytes
        self._where, self._offsets = dataset.locate(self.rows)
        self._shards: _ShardCache | None = _ShardCache(dataset, buffer_shards, cache_bytes)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is sent: no open store, no cached pixels."""
        return {**self.__dict__, "_shards": None}

    def __len__(self) -> int:
        """Batches of one epoch from the first, for `repeat=False`."""
        if self.repeat:
            raise TypeError("StampBatches with repeat=True has no end")
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches from `start_batch` on; worker w of W gives every W-th of them, from the w-th on."""
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if self._shards is None:
            self._shards = _ShardCache(StampDataset.open(self.root), self.buffer_shards, self.cache_bytes)
        batch = self.start_batch + first * self.every
        while self.repeat or batch * self.batch_size < len(self.rows):
            yield self._load(self._batch(batch))
            batch += step * self.every

    def _batch(self, number: int) -> np.ndarray:
        """Places in `rows` of batch `number`."""
        first = number * self.batch_size
        last = first + self.batch_size
        if not self.repeat:
            last = min(last, len(self.rows))
        pieces = []
        while first < last:
            epoch, start = divmod(first, len(self.rows))
            stop = min(start + last - first, len(self.rows))
            pieces.append(self._order(epoch)[start:stop])
            first += stop - start
        return np.concatenate(pieces)

    def _order(self, epoch: int) -> np.ndarray:
        """Places in `rows` in the order of `epoch`."""
        if not self.shuffle:
            return np.arange(len(self.rows))
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._epoch_order = epoch, self._draw(epoch)
        return self._epoch_order

    def _draw(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        by_shard = np.argsort(self._where, kind="stable")
        shards, starts = np.unique(self._where[by_shard], return_index=True)
        pieces = np.split(by_shard, starts[1:])
        turn = generator.permutation(len(shards))
        groups = [turn[first : first + self.buffer_shards] for first in range(0, len(turn), self.buffer_shards)]
        return np.concatenate([generator.permutation(np.concatenate([pieces[i] for i in group])) for group in groups])

    def _load(self, places: np.ndarray) -> dict[str, Tensor]:
        assert self._shards is not None
        shards, offsets = self._where[places], self._offsets[places]
        images: np.ndarray | None = None
        for shard in dict.fromkeys(shards.tolist()):  # in the order of need, so that no shard is read twice
            pixels = self._shards[shard]
            if images is None:
                images = np.empty((len(places), *pixels.shape[1:]), pixels.dtype)
            for place in np.flatnonzero(shards == shard):  # a memcpy each: an index array would copy twice
                images[place] = pixels[offsets[place]]
        return {"images": torch.from_numpy(images), "rows": torch.from_numpy(self.rows[places])}


class _ShardCache:
    """Pixels of the shards used last: as many as fit, but never fewer than `least`."""

    def __init__(self, dataset: StampDataset, least: int, limit: int) -> None:
        self._dataset = dataset
        self._least = least
        self._limit = limit
        self._bytes = 0
        self._pixels: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, shard: int) -> np.ndarray:
        if shard in self._pixels:
            self._pixels.move_to_end(shard)
            return self._pixels[shard]
        pixels = self._dataset.read_shard(shard)
        self._pixels[shard] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self._limit and len(self._pixels) > self._least:
            self._bytes -= self._pixels.popitem(last=False)[1].nbytes
        return pixels
