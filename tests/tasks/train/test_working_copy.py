"""A working copy is carried on, never mistaken for another, and refused before it fills the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from infra.progress import silent
from tasks import reserved_array
from tasks.train.working_copy import make_working_copy


class Stamps:
    """1200 stamps that tell their rows, and how many were read at each call."""

    digest = "stamps"

    def __init__(self) -> None:
        self.images = np.broadcast_to(np.arange(1200, dtype=np.float32)[:, None, None, None], (1200, 3, 4, 4))
        self.reads: list[int] = []

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        self.reads.append(len(rows))
        return self.images[rows]


def test_a_copy_is_carried_on_and_never_mistaken_for_one_of_other_rows(tmp_path: Path) -> None:
    fake = Stamps()
    path = tmp_path / "copy.npy"

    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_working_copy(path, fake, np.arange(1200), stop)
    fake.reads.clear()
    copy = make_working_copy(path, fake, np.arange(1200), silent)
    assert sum(fake.reads) == 1200 - 512
    assert np.array_equal(copy.read(np.array([1100, 3, 3])).numpy(), fake.images[[1100, 3, 3]])
    other = make_working_copy(path, fake, np.arange(5, 20), silent)
    assert np.array_equal(other.read(np.array([6])).numpy(), fake.images[[6]])
    with pytest.raises(KeyError, match="21"):
        other.read(np.array([7, 21]))


def test_a_disk_without_room_for_the_copy_is_said_before_copying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Stamps()
    path = tmp_path / "copy.npy"
    make_working_copy(path, fake, np.arange(20), silent)
    path.unlink()  # its neighbour still says that all is copied

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(reserved_array.os, "posix_fallocate", full, raising=False)
        make_working_copy(path, fake, np.arange(20), silent)
    assert np.array_equal(make_working_copy(path, fake, np.arange(20), silent).read(np.array([6])), fake.images[[6]])
