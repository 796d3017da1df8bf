"""Whole or not at all: what is missing, doubled or out of order is never published."""

from __future__ import annotations

import errno

import numpy as np
import pyarrow as pa
import pytest

from infra.errors import GalaxyError
from tasks import reserved_array
from tasks.infer.publish import publish, published

ORIGIN = {"digest": "c" * 64, "dataset_digest": "d" * 64, "models": {"galaxy-lvm": "3"}}
IDS = np.array([f"gal-{i}" for i in range(6)], dtype=object)


def piece(rows: list[int]) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(len(rows) * 2, np.float16)), 2)
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "object_id": [str(IDS[row]) for row in rows],
            "lens_score": pa.array(np.linspace(0, 1, len(rows)), pa.float32()),
            "embedding": vectors,
            "refused": pa.array([None if row else "dark" for row in rows], pa.string()),
        }
    )


def test_whole_catalogue_is_published_once(tmp_path):
    target = tmp_path / "catalogues" / "tiny"
    proof = publish(target, [piece([0, 1, 2]), piece([3, 4, 5])], IDS, ORIGIN)
    assert (proof["rows_in"], proof["rows_out"], proof["refused"]) == (6, 5, {"dark": 1})
    assert published(target) == proof
    made = (target / "predictions.parquet").stat().st_mtime_ns
    assert publish(target, iter(()), IDS, ORIGIN) == proof  # there already: nothing is read or written
    assert (target / "predictions.parquet").stat().st_mtime_ns == made
    changed = publish(target, [piece([0, 1, 2, 3, 4, 5])], IDS, {**ORIGIN, "digest": "e" * 64})
    assert published(target) == changed
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([[0, 1, 2]], "has 3 rows and the dataset 6"),
        ([[0, 1, 2], [3, 5, 4]], "row 4 of the catalogue is 'gal-5'"),
        ([[0, 1, 2], [2, 4, 5]], "row 3 of the catalogue is 'gal-2'"),
    ],
)
def test_lost_doubled_or_swapped_rows_are_not_published(tmp_path, pieces, said):
    target = tmp_path / "catalogues" / "tiny"
    with pytest.raises(GalaxyError, match=said):
        publish(target, [piece(rows) for rows in pieces], IDS, ORIGIN)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space left")])
def test_nothing_half_published_when_it_is_stopped(tmp_path, error):
    target = tmp_path / "tiny"
    first = publish(target, [piece([0, 1, 2, 3, 4, 5])], IDS, ORIGIN)

    def stopped(folder):
        raise error

    expected = GalaxyError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        publish(target, [piece([0, 1, 2, 3, 4, 5])], IDS, {**ORIGIN, "digest": "e" * 64}, stopped)
    assert published(target) == first  # the catalogue of before is untouched


def test_a_disk_without_room_for_the_embeddings_is_said_before_they_are_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(reserved_array.os, "posix_fallocate", full, raising=False)
    with pytest.raises(GalaxyError, match=r"disk of .* is full"):
        publish(tmp_path / "tiny", [piece([0, 1, 2, 3, 4, 5])], IDS, ORIGIN)
    assert list(tmp_path.iterdir()) == []
