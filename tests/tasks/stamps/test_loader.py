"""Batches: every row once per epoch, and a start in the middle gives what an undisturbed run gave."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import LostShardError, StampStoreError
from tasks.stamps.loader import StampBatches


def valid_rows(dataset: StampDataset) -> np.ndarray:
    return np.flatnonzero(dataset.catalog["state"] == "valid")


def rows_of(batches) -> list[list[int]]:
    return [batch["rows"].tolist() for batch in batches]


def test_every_row_comes_exactly_once_an_epoch_with_its_pixels(dataset: StampDataset) -> None:
    rows = valid_rows(dataset)
    batches = list(StampBatches(dataset.root, rows, 7, seed=1, repeat=False, buffer_shards=2))
    seen = torch.cat([batch["rows"] for batch in batches])
    assert sorted(seen.tolist()) == rows.tolist()
    assert seen.tolist() != rows.tolist()
    assert (torch.cat([batch["images"] for batch in batches])[:, 1, 5, 5] == seen).all()
    assert [len(batch["rows"]) for batch in batches] == [7] * 6 + [6]


def test_epochs_follow_each_other_without_loss(dataset: StampDataset) -> None:
    rows = valid_rows(dataset)[:45]
    batches = rows_of(islice(StampBatches(dataset.root, rows, 10, seed=1), 18))
    stream = [row for batch in batches for row in batch]
    epochs = [stream[first : first + 45] for first in range(0, 180, 45)]
    assert all(sorted(epoch) == rows.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("start", [1, 4, 6, 23])
def test_a_later_start_gives_the_same_batches(dataset: StampDataset, start: int, shuffle: bool) -> None:
    def options(begin: int) -> StampBatches:
        return StampBatches(
            dataset.root, valid_rows(dataset), 9, seed=3, start_batch=begin, buffer_shards=2, shuffle=shuffle
        )

    whole = list(islice(options(0), start + 5))[start:]
    later = list(islice(options(start), 5))
    for one, other in zip(whole, later, strict=True):
        assert torch.equal(one["rows"], other["rows"])
        assert torch.equal(one["images"], other["images"])


def test_processes_share_the_batches_between_them(dataset: StampDataset) -> None:
    def batches(first: int, every: int) -> StampBatches:
        return StampBatches(dataset.root, valid_rows(dataset), 7, seed=2, start_batch=first, every=every)

    shares = [rows_of(islice(batches(4 + rank, every=3), 3)) for rank in range(3)]
    dealt = [shares[place % 3][place // 3] for place in range(9)]
    assert dealt == rows_of(islice(batches(4, every=1), 9))


def test_order_depends_on_the_seed_alone(dataset: StampDataset) -> None:
    rows = valid_rows(dataset)
    first = rows_of(StampBatches(dataset.root, rows, 8, seed=5, repeat=False))
    assert rows_of(StampBatches(dataset.root, rows, 8, seed=5, repeat=False, cache_bytes=0)) == first
    assert rows_of(StampBatches(dataset.root, rows, 8, seed=6, repeat=False)) != first


def test_without_shuffle_rows_come_as_given(dataset: StampDataset) -> None:
    rows = [49, 2, 30, 31, 5]
    batches = StampBatches(dataset.root, rows, 2, seed=0, shuffle=False, repeat=False)
    assert rows_of(batches) == [[49, 2], [30, 31], [5]]
    assert len(batches) == 3


def test_rows_of_different_shards_are_mixed(dataset: StampDataset) -> None:
    batches = rows_of(StampBatches(dataset.root, valid_rows(dataset), 16, seed=0, repeat=False, buffer_shards=3))
    assert len({row // 16 for row in batches[0]}) > 1


def test_only_valid_rows_may_be_asked_for(dataset: StampDataset) -> None:
    with pytest.raises(StampStoreError, match="row 7"):
        StampBatches(dataset.root, [6, 7, 8], 2, seed=0)


def test_a_lost_shard_stops_the_batches(dataset: StampDataset) -> None:
    (Path(dataset.root) / "parts/0000/stamps.zarr/images/c/2/0/0/0").unlink()
    with pytest.raises(LostShardError):
        list(StampBatches(dataset.root, valid_rows(dataset), 8, seed=0, repeat=False))


def test_each_shard_is_read_once_an_epoch_without_a_cache(dataset: StampDataset, monkeypatch) -> None:
    read: list[int] = []
    original = StampDataset.read_shard
    monkeypatch.setattr(StampDataset, "read_shard", lambda self, i: (read.append(i), original(self, i))[1])
    list(StampBatches(dataset.root, valid_rows(dataset), 5, seed=0, repeat=False, buffer_shards=2, cache_bytes=0))
    assert sorted(read) == [0, 1, 2, 3]


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_in_order(dataset: StampDataset) -> None:
    alone = StampBatches(dataset.root, valid_rows(dataset), 9, seed=2, repeat=False, start_batch=1, every=2)
    with_workers = DataLoader(alone, batch_size=None, num_workers=2, multiprocessing_context="forkserver")
    assert rows_of(with_workers) == rows_of(alone)
