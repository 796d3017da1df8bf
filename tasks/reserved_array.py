"""Large `.npy` files that are written through a memory map, with their space on the disk reserved beforehand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


def create_reserved(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[Any]]:
    """A new memory-mapped `.npy` file of zeros that already has all its space.

    Parameters
    ----------
    path
        File; what is there is replaced.
    dtype, shape
        Of the array.

    Returns
    -------
    numpy.memmap
        To write into.

    Raises
    ------
    OSError
        If the disk has no room for all of it (ENOSPC, EDQUOT). Then there is no file.
    """
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    # The file has holes so far. A page of a hole that finds the disk full kills the process with SIGBUS, which nothing
    # can report; a reservation that finds it full is an ordinary error.
    try:
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink()
        raise
    return array
