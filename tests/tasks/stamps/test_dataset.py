"""Reading: every pixel belongs to its row, and what is lost or damaged is never read as zeros."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.errors import DamagedShardError, IncompletePartError, LostShardError, StampStoreError
from tasks.stamps.part import Part


def shard_file(dataset: StampDataset, shard: int) -> Path:
    part = Part.open(Path(dataset.root) / "parts/0000")
    return part.storage.path(part.layout.objects(shard)["images"])


def test_every_row_has_its_own_pixels(dataset: StampDataset) -> None:
    assert [len(shard.rows) for shard in dataset.shards] == [16, 16, 16, 2]
    for i, shard in enumerate(dataset.shards):
        pixels = dataset.read_shard(i)
        numbers = dataset.catalog["object_id"][shard.rows].str.removeprefix("object-").astype(int)
        broken = numbers.isin([7, 33]).to_numpy()
        assert (pixels == np.where(broken, 0, numbers)[:, None, None, None]).all()


def test_pixels_are_those_that_zarr_reads(dataset: StampDataset) -> None:
    images = zarr.open_group(Path(dataset.root) / "parts/0000/stamps.zarr", mode="r")["images"][:]
    assert np.array_equal(np.concatenate([dataset.read_shard(i) for i in range(4)]), images)


def test_objects_are_byte_for_byte_those_that_zarr_writes(dataset: StampDataset, tmp_path: Path) -> None:
    ours = Path(dataset.root) / "parts/0000/stamps.zarr"
    shutil.copytree(ours, tmp_path / "copy")
    for name in ("images", "state"):
        pixels = zarr.open_array(ours / name, mode="r")[:]
        shutil.rmtree(tmp_path / "copy" / name / "c")
        with zarr.config.set({"array.write_empty_chunks": True}):
            zarr.open_array(tmp_path / "copy" / name, mode="r+")[:] = pixels
        files = [path.relative_to(ours) for path in (ours / name / "c").rglob("*") if path.is_file()]
        assert len(files) == 4
        assert all((ours / path).read_bytes() == (tmp_path / "copy" / path).read_bytes() for path in files)


def test_a_shard_in_another_order_of_chunks_is_refused(dataset: StampDataset, monkeypatch) -> None:
    monkeypatch.setattr("tasks.stamps.dataset.shard_pixels", lambda *_: None)
    with pytest.raises(DamagedShardError, match="otherwise"):
        dataset.read_shard(3)


def test_rows_come_in_the_order_asked(dataset: StampDataset) -> None:
    rows = [40, 3, 3, 49, 16, 0]
    assert dataset.read_rows(rows)[:, 0, 0, 0].tolist() == rows


def test_a_row_without_a_stamp_is_refused(dataset: StampDataset) -> None:
    with pytest.raises(StampStoreError, match="row 33 \\(failed\\)"):
        dataset.read_rows([1, 33])
    with pytest.raises(StampStoreError, match="0 to 49"):
        dataset.read_rows([50])


def test_failed_rows_are_in_the_quarantine_with_their_reason(dataset: StampDataset) -> None:
    found = dataset.quarantine.set_index("object_id")
    assert found.loc["object-0033", ["state", "reason", "detail"]].tolist() == ["failed", "broken", "33"]
    assert sorted(found.index) == ["object-0007", "object-0033"]


def test_a_lost_shard_is_an_error(dataset: StampDataset) -> None:
    shard_file(dataset, 1).unlink()
    with pytest.raises(LostShardError, match="shard 1 is lost"):
        StampDataset.open(dataset.root).read_shard(1)
    assert StampDataset.open(dataset.root).read_shard(0).shape == (16, 2, 8, 8)


def test_a_torn_shard_is_an_error(dataset: StampDataset) -> None:
    path = shard_file(dataset, 2)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedShardError, match="has 1000 bytes"):
        StampDataset.open(dataset.root).read_rows([35])


def test_a_changed_byte_is_an_error_even_after_a_good_read(dataset: StampDataset) -> None:
    dataset.read_shard(0)
    path = shard_file(dataset, 0)
    data = bytearray(path.read_bytes())
    data[77] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match="checksum"):
        dataset.read_shard(0)


def test_an_unfinished_dataset_is_not_opened(tmp_path: Path, objects) -> None:
    made = objects(20)
    made.create(tmp_path / "parts/0000")
    with pytest.raises(IncompletePartError, match="ingest"):
        StampDataset.open(tmp_path)
    with pytest.raises(IncompletePartError, match="not finalised"):
        publish(tmp_path, ["parts/0000"])


def test_a_delta_adds_and_removes_objects(tmp_path: Path, objects) -> None:
    first = objects(50).store(tmp_path)
    digest = first.digest
    more = objects(10, first=100)
    part = more.create(tmp_path / "parts/0001")
    for shard in part.pending():
        part.load([shard], more.read)
    more.finalise(part)
    parts = ["parts/0000", "parts/0001"]
    gone = [{"object_id": f"object-{i:04d}", "parts": 1} for i in [*range(16), 20]]  # all of shard 0, one of shard 1
    publish(tmp_path, parts, gone)
    both = StampDataset.open(tmp_path)
    assert len(both) == 43
    assert [len(shard.rows) for shard in both.shards] == [15, 16, 2, 10]
    assert both.read_rows([0, 4, 32, 33, 42])[:, 0, 0, 0].tolist() == [16, 21, 49, 100, 109]
    assert both.catalog["object_id"][33] == "object-0100"
    publish(tmp_path, parts, gone[::-1])
    assert StampDataset.open(tmp_path).digest == both.digest != digest


def test_one_object_in_two_parts_is_refused(tmp_path: Path, objects) -> None:
    objects(20).store(tmp_path)
    before = json.loads((tmp_path / "dataset.json").read_text())
    again = objects(4, first=18)
    part = again.create(tmp_path / "parts/0001")
    part.load([0], again.read)
    again.finalise(part)
    with pytest.raises(StampStoreError, match="object-0018 is in two parts"):
        publish(tmp_path, ["parts/0000", "parts/0001"])
    assert json.loads((tmp_path / "dataset.json").read_text()) == before
    publish(tmp_path, ["parts/0000", "parts/0001"], [{"object_id": f"object-{i:04d}", "parts": 1} for i in (18, 19)])
    assert len(StampDataset.open(tmp_path)) == 22
