"""Stamps that are drawn again and again in any order, copied once into one flat file.

The stamp store is read in whole shards; a labelled batch wants a few rows from everywhere. The copy is memory-mapped,
so it costs disk and not memory, and a batch is a pure function of its rows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from infra.progress import Progress
from infra.stage_folder import canonical_digest
from tasks.reserved_array import create_reserved

PIECE = 512
"""Rows that are read and written at once."""


class Stamps(Protocol):
    """What is copied from: the stamp store."""

    digest: str

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """(n, C, H, W) in the order asked."""


@dataclass(frozen=True)
class WorkingCopy:
    """Raw stamps of some catalogue rows.

    Attributes
    ----------
    rows
        (n,) catalogue rows, rising; row i of the file is the stamp of `rows[i]`.
    images
        (n, C, H, W), memory-mapped.
    """

    rows: NDArray[np.int64]
    images: NDArray[np.generic]

    def read(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """(k, C, H, W) in the store's type, in the order asked; raises KeyError for a row that was not copied."""
        places = np.searchsorted(self.rows, rows)
        if len(rows) and (places.max() >= len(self.rows) or (self.rows[places] != rows).any()):
            raise KeyError(f"rows {np.setdiff1d(rows, self.rows)[:5].tolist()} are not in the working copy")
        return torch.from_numpy(np.array(self.images[places]))


def make_working_copy(path: Path, stamps: Stamps, rows: NDArray[np.int64], progress: Progress) -> WorkingCopy:
    """Copy `rows` of `stamps` to `path`, or take what an earlier start copied of the same rows.

    Parameters
    ----------
    path
        A `.npy` file; its `.json` neighbour says how far the copy is.
    rows
        Catalogue rows in any order, repeats allowed.

    Raises
    ------
    OSError
        If the disk has no room for the whole copy; raised before anything is copied.
    """
    rows = np.unique(rows)
    identity = canonical_digest({"dataset": stamps.digest, "rows": rows.tolist()})
    state = path.with_suffix(".json")
    done = _done(state, identity)
    if done == 0 or not path.exists():
        first = stamps.read_rows(rows[:1])
        state.unlink(missing_ok=True)  # what it says is not true of the new file
        images = create_reserved(path, first.dtype, (len(rows), *first.shape[1:]))
        done = 0
    else:
        images = np.lib.format.open_memmap(path, "r+")
    for start in range(done, len(rows), PIECE):
        piece = rows[start : start + PIECE]
        images[start : start + len(piece)] = stamps.read_rows(piece)
        images.flush()
        _write(state, {"identity": identity, "done": start + len(piece)})
        progress(start + len(piece), len(rows), "copying labelled stamps")
    return WorkingCopy(rows, np.lib.format.open_memmap(path, "r"))


def discard_working_copy(path: Path) -> None:
    """Free the disk; nothing but time is lost."""
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)


def _done(state: Path, identity: str) -> int:
    try:
        content = json.loads(state.read_text())
    except (OSError, ValueError):
        return 0
    return int(content["done"]) if content.get("identity") == identity else 0


def _write(path: Path, content: dict[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)
