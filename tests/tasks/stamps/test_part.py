"""The life of a part: loaded in any order, finalised once, and its digest says what it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.errors import DamagedShardError, IncompletePartError, StampContractError, StampStoreError
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import Part
from tasks.stamps.stamp import Stamp


def test_digest_does_not_depend_on_order_or_repetition(tmp_path: Path, objects) -> None:
    made = objects(50, broken=(7,))
    forward, scattered = made.create(tmp_path / "a"), made.create(tmp_path / "b")
    for shard in forward.pending():
        forward.load([shard], made.read)
    for shard in (3, 1, 1, 0, 3, 2):
        scattered.load([shard], made.read)
    assert made.finalise(forward)["digest"] == made.finalise(scattered)["digest"]


def test_digest_does_not_depend_on_the_size_of_shards_but_on_one_pixel(tmp_path: Path, objects) -> None:
    digests = []
    for name, shard_stamps, changed in (("a", 16, None), ("b", 32, None), ("c", 16, 21)):
        made = objects(50)
        made.layout = StampLayout(50, ("g", "r"), 8, "nanomaggy", shard_stamps, 4)
        part = made.create(tmp_path / name)

        def read(rows: pd.DataFrame, made=made, changed=changed) -> list[Stamp]:
            stamps = made.read(rows)
            for stamp, object_id in zip(stamps, rows["object_id"], strict=True):
                if changed is not None and object_id == made.name(changed):
                    stamp.image[0, 3, 3] += 1
            return stamps

        for shard in part.pending():
            part.load([shard], read)
        digests.append(made.finalise(part)["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_a_part_with_a_missing_shard_is_refused(tmp_path: Path, objects) -> None:
    made = objects(50)
    part = made.create(tmp_path / "part")
    for shard in (0, 1, 3):
        part.load([shard], made.read)
    assert part.pending() == [2]
    with pytest.raises(IncompletePartError, match="first is 2"):
        made.finalise(part)
    assert not (tmp_path / "part/proof.json").exists()


def test_rows_that_do_not_add_up_are_refused(tmp_path: Path, objects) -> None:
    made = objects(20)
    part = made.create(tmp_path / "part")
    for shard in part.pending():
        part.load([shard], made.read)
    with pytest.raises(IncompletePartError, match="20 rows came in, 19 are"):
        part.finalise(lambda merged: (merged.iloc[:-1], merged.iloc[:0]))
    part.counts["input"] += 1
    with pytest.raises(IncompletePartError, match="21 rows came in, 20 are accounted for"):
        made.finalise(part)


def test_a_torn_unrecorded_shard_is_written_anew(tmp_path: Path, objects) -> None:
    """A writer that died before the ledger leaves an object that nobody must merge with."""
    made = objects(50)
    part = made.create(tmp_path / "part")
    for shard in part.pending():
        torn = part.storage.path(part.layout.objects(shard)["images"])
        torn.parent.mkdir(parents=True, exist_ok=True)
        torn.write_bytes(b"torn" * 100)
        part.load([shard], made.read)
    clean = made.create(tmp_path / "clean")
    for shard in clean.pending():
        clean.load([shard], made.read)
    assert made.finalise(part)["digest"] == made.finalise(clean)["digest"]


def test_finalise_refuses_a_shard_that_shrank(tmp_path: Path, objects) -> None:
    made = objects(50)
    part = made.create(tmp_path / "part")
    for shard in part.pending():
        part.load([shard], made.read)
    shard_file = part.storage.path(part.layout.objects(1)["images"])
    shard_file.write_bytes(shard_file.read_bytes()[:-10])
    with pytest.raises(DamagedShardError, match="shard 1"):
        made.finalise(part)


def test_statistics_are_those_of_the_valid_stamps(tmp_path: Path, objects) -> None:
    made = objects(50, broken=(49,))
    part = made.create(tmp_path / "part")
    for shard in part.pending():
        part.load([shard], made.read)
    proof = made.finalise(part)
    valid = np.arange(49)
    for band in ("g", "r"):
        found = proof["statistics"][band]
        assert found["mean"] == pytest.approx(valid.mean())
        assert found["standard_deviation"] == pytest.approx(valid.std())
        assert (found["minimum"], found["maximum"]) == (0, 48)
    assert zarr.open_group(tmp_path / "part/stamps.zarr", mode="r").attrs["statistics"] == proof["statistics"]
    assert proof["states"] == {"pending": 0, "valid": 49, "no_coverage": 0, "failed": 1}


def test_a_finalised_part_never_changes(tmp_path: Path, objects) -> None:
    dataset = objects(20).store(tmp_path / "dataset")
    with pytest.raises(StampStoreError, match="finalised"):
        Part.open(Path(dataset.root) / "parts/0000").load([0], objects(20).read)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((2, 8, 9), np.float16), r"\(2, 8, 9\)"),
        (np.zeros((2, 8, 8), np.float32), "float32"),
        (np.full((2, 8, 8), np.nan, np.float16), "NaN"),
    ],
)
def test_a_stamp_that_breaks_the_contract_is_not_stored(tmp_path: Path, objects, image: np.ndarray, said: str) -> None:
    made = objects(4)
    part = made.create(tmp_path / "part")
    with pytest.raises(StampContractError, match=said):
        part.load([0], lambda rows: [Stamp(image) for _ in range(len(rows))])
    assert part.pending() == [0]


def test_dark_stamps_are_written_and_not_left_out(tmp_path: Path, objects) -> None:
    """Zarr leaves out chunks that are all zero unless told otherwise; then dark and lost look the same."""
    made = objects(16)
    part = made.create(tmp_path / "part")
    [record] = part.load([0], lambda rows: [Stamp(np.zeros((2, 8, 8), np.float16)) for _ in range(len(rows))])
    assert record.objects[part.layout.objects(0)["images"]]["bytes"] >= 16 * 2 * 8 * 8 * 2


def test_large_stamps_make_small_shards() -> None:
    layout = StampLayout(10_000, ("g", "r", "i", "z"), 512, "nanomaggy", shard_stamps=1024, chunk_stamps=16)
    assert layout.shard * 4 * 512 * 512 * 2 <= 150_000_000
    assert layout.shard % layout.chunk_stamps == 0
    assert StampLayout(40, ("g",), 32, "rgb", 1024, 16).shard == 48


def test_inverse_variance_keeps_numbers_that_halves_cannot(tmp_path: Path, objects) -> None:
    made = objects(20)
    made.layout = StampLayout(20, ("g", "r"), 8, "nanomaggy", 16, 4, invvar=True)
    invvar = np.full((2, 8, 8), 1e6, np.float32)  # a float16 ends at 65504

    def read(rows: pd.DataFrame) -> list[Stamp]:
        return [Stamp(stamp.image, stamp.columns, invvar) for stamp in made.read(rows)]

    part = made.create(tmp_path / "dataset/parts/0000")
    for shard in part.pending():
        part.load([shard], read)
    made.finalise(part)
    publish(tmp_path / "dataset", ["parts/0000"])
    assert (StampDataset.open(tmp_path / "dataset").read_shard(1, "invvar") == 1e6).all()
