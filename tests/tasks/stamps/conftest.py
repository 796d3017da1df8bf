"""A small store whose pixels say which object they belong to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.stamp import Refusal, Stamp

NOTHING = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))


class Objects:
    """Objects 0..count-1: every pixel of object i is i, so that a stamp says whose it is."""

    def __init__(self, count: int, units: str = "nanomaggy", broken: tuple[int, ...] = (), first: int = 0) -> None:
        self.layout = StampLayout(count, ("g", "r"), 8, units, shard_stamps=16, chunk_stamps=4)
        self.broken = broken
        self.first = first

    def name(self, number: int) -> str:
        """Object id."""
        return f"object-{number:04d}"

    def plan(self) -> pd.DataFrame:
        """All rows."""
        numbers = range(self.first, self.first + self.layout.rows)
        return pd.DataFrame({"object_id": [self.name(i) for i in numbers], "source": "numbers"})

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp or a refusal for each row."""
        numbers = [int(name.removeprefix("object-")) for name in rows["object_id"]]
        return [
            Refusal("broken", detail=str(i))
            if i in self.broken
            else Stamp(np.full(self.layout.stamp_shape, i, self.layout.dtype), {"brightness": float(i)})
            for i in numbers
        ]

    def create(self, root: Path) -> Part:
        """An empty part."""
        counts = {"input": self.layout.rows, "refused": 0}
        return Part.create(root, self.layout, one_piece(self.plan()), NOTHING, counts, {}, "identity")

    def finalise(self, part: Part) -> dict[str, object]:
        """Finalise with the catalogue as it is."""
        return part.finalise(lambda merged: (merged, NOTHING))

    def store(self, root: Path) -> StampDataset:
        """A published dataset of one part."""
        part = self.create(root / "parts/0000")
        for shard in part.pending():
            part.load([shard], self.read)
        self.finalise(part)
        publish(root, ["parts/0000"])
        return StampDataset.open(root)


@pytest.fixture
def objects() -> Callable[..., Objects]:
    """Makes a set of objects."""
    return Objects


@pytest.fixture
def dataset(tmp_path: Path) -> StampDataset:
    """Fifty objects, two of them broken, in four shards, the last one not full."""
    return Objects(50, broken=(7, 33)).store(tmp_path / "dataset")
