"""One version of a survey's dataset: which parts it takes over from the one before, and what its own part holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.ingest.delta import Delta
from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import IncompletePartError
from tasks.stamps.part import PROOF
from tasks.stamps.storage import Storage, relative

VERSION = "version.json"


@dataclass(frozen=True)
class Version:
    """What was planned; written last, so that its presence means that the plan is whole.

    Attributes
    ----------
    identity
        Digest of what the plan was made from.
    rows
        Objects of the version's own part; 0 if it has none.
    carried
        Paths of the parts of older versions, relative to this one.
    tombstones
        As for `publish`: objects of those parts that count no longer.
    counts
        Objects: `input` (named by the sources) are `kept` (as they were), `new`, `changed` or `refused`; `retired` are
        those of the older version that are gone.
    """

    identity: str
    rows: int
    carried: Sequence[str]
    tombstones: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]

    @classmethod
    def whole(cls, identity: str, counts: Mapping[str, int]) -> Version:
        """A version that takes nothing over, of a plan's counts."""
        rows = counts["input"] - counts["refused"]
        return cls(identity, rows, (), (), {**counts, "kept": 0, "new": rows, "changed": 0, "retired": 0})

    @classmethod
    def after(cls, delta: Delta, identity: str, refused: int, root: str) -> Version:
        """A version that adds to an older one what is new and changed, and takes out what is gone and changed."""
        parts, old = delta.base.part_locations, delta.base.tombstones
        new = [{"object_id": object_id, "parts": len(parts)} for object_id in delta.retired]
        counts = {
            "input": delta.kept + delta.count + refused,
            "refused": refused,
            "kept": delta.kept,
            "new": delta.count - delta.changed,
            "changed": delta.changed,
            "retired": len(delta.retired) - delta.changed,
        }
        return cls(identity, delta.count, [relative(part, root) for part in parts], [*old, *new], counts)

    @classmethod
    def read(cls, storage: Storage) -> Version | None:
        """The version that is planned at a place, or None."""
        content = storage.read(VERSION)
        return None if content is None else cls(**json.loads(content))

    def is_whole(self, storage: Storage) -> bool:
        """Whether all parts that it takes over are still there."""
        return all(storage.child(part).read(PROOF) is not None for part in self.carried)

    def write(self, storage: Storage) -> None:
        """Keep it, as the last act of planning."""
        storage.write(VERSION, json.dumps(asdict(self), sort_keys=True, indent=2).encode())

    def check(self, dataset: StampDataset) -> None:
        """Refuse a dataset that does not account for every object.

        Raises
        ------
        IncompletePartError
            If the counts do not add up.
        """
        counts = self.counts
        here = counts["kept"] + counts["new"] + counts["changed"]
        if counts["input"] != here + counts["refused"] or len(dataset) != here:
            raise IncompletePartError(
                f"{dataset.root}: {counts['input']} objects came in, {len(dataset)} are in the dataset and "
                f"{counts['refused']} are refused; nothing is published ({dict(counts)})"
            )
