"""A reserved array has its space on the disk before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tasks.reserved_array import create_reserved


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_the_file_has_no_holes_and_reads_back_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    array = create_reserved(path, np.float16, (1024, 512))
    state = path.stat()
    assert state.st_blocks * 512 >= state.st_size > array.nbytes
    array[3] = 7
    array.flush()
    assert np.load(path)[:4, 0].tolist() == [0, 0, 0, 7]
