"""A stamp dataset: an ordered list of immutable parts, and what was taken out since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.stage_folder import canonical_digest
from tasks.stamps import ledger
from tasks.stamps.errors import DamagedShardError, IncompletePartError, StampStoreError
from tasks.stamps.part import CATALOGUE, PROOF, QUARANTINE, REFUSED, Part
from tasks.stamps.plain_shard import shard_pixels
from tasks.stamps.row_groups import column_names, read_parquet
from tasks.stamps.stamp import STATES, VALID
from tasks.stamps.storage import Storage, open_storage

MANIFEST = "dataset.json"
SCHEMA_VERSION = 1

# Text columns where a missing value is None, whatever the reader of Parquet makes of it.
TEXT_OR_NONE = ("field", "label.", "mask.")


@dataclass(frozen=True)
class Shard:
    """The live rows of one shard of one part.

    Attributes
    ----------
    rows
        (n,) rows of the dataset's catalogue.
    offsets
        (n,) their places in the shard.
    """

    part: int
    index: int
    rows: np.ndarray
    offsets: np.ndarray


class StampDataset:
    """Reads a dataset. Rows are those of all parts in order, without the objects that were removed."""

    def __init__(self, storage: Storage, manifest: dict[str, Any]) -> None:
        self.storage = storage
        self.digest: str = manifest["digest"]
        self.units: str = manifest["units"]
        self.bands: tuple[str, ...] = tuple(manifest["bands"])
        self.stamp_size: int = manifest["stamp_size"]
        self._manifest = manifest
        self._parts = [Part(storage.child(part["path"])) for part in manifest["parts"]]

    @classmethod
    def open(cls, root: Path | str) -> StampDataset:
        """Open a dataset; raises IncompletePartError if there is none."""
        storage = open_storage(root)
        content = storage.read(MANIFEST)
        if content is None:
            raise IncompletePartError(f"no stamp dataset at {storage.location}; run the ingest stage to its end")
        manifest = json.loads(content)
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise StampStoreError(
                f"{storage.location} has schema version {manifest['schema_version']}; this code reads {SCHEMA_VERSION}"
            )
        return cls(storage, manifest)

    @property
    def root(self) -> str:
        """Path or URL of the dataset."""
        return self.storage.location

    @property
    def family(self) -> str:
        """Digest of what this dataset has in common with newer and older ones of the same survey; empty if none."""
        return str(self._manifest.get("family", ""))

    @property
    def tombstones(self) -> list[dict[str, Any]]:
        """Objects that were removed, and from how many first parts."""
        return list(self._manifest["tombstones"])

    @property
    def part_locations(self) -> list[str]:
        """Path or URL of each part."""
        return [part.storage.location for part in self._parts]

    def planned(self) -> Iterator[pd.DataFrame]:
        """The live rows as they were planned, shard by shard."""
        for part, live in zip(self._parts, self._live, strict=True):
            for index in range(part.layout.shards):
                yield part.plan(index)[live[part.layout.span(index)]]

    @cached_property
    def catalog(self) -> pd.DataFrame:
        """One row per object, in the order of the pixels; the index is the row number."""
        return _joined([self._catalogue(number)[live] for number, live in enumerate(self._live)])

    @cached_property
    def names(self) -> list[str]:
        """Columns of the catalogue."""
        return list(dict.fromkeys(name for names in self._names for name in names))

    def columns(self, names: Sequence[str]) -> pd.DataFrame:
        """Some columns of the catalogue, without reading the others."""
        tables = []
        for number, live in enumerate(self._live):
            here = [name for name in names if name in self._names[number]]
            tables.append(self._catalogue(number, here or ["object_id"])[live])
        return _joined(tables)[list(names)]

    def column(self, name: str) -> pd.Series:
        """One column of the catalogue, without reading the others."""
        tables = [self._catalogue(number, [name])[live] for number, live in enumerate(self._live)]
        return pd.concat(tables, ignore_index=True)[name]

    @cached_property
    def states(self) -> np.ndarray:
        """(N,) uint8 index into STATES."""
        names = self.column("state").to_numpy(object)
        return np.asarray(pd.Categorical(names, categories=list(STATES)).codes, np.uint8)

    @cached_property
    def shards(self) -> list[Shard]:
        """All shards in order; one whose objects were all removed is left out."""
        shards, first = [], 0
        for number, (part, live) in enumerate(zip(self._parts, self._live, strict=True)):
            for index in range(part.layout.shards):
                offsets = np.flatnonzero(live[part.layout.span(index)])
                if len(offsets):
                    shards.append(Shard(number, index, np.arange(first, first + len(offsets)), offsets))
                    first += len(offsets)
        return shards

    @cached_property
    def quarantine(self) -> pd.DataFrame:
        """Rows and labels that were refused, and images that failed, with the reason."""
        tables = [read_parquet(part.storage, QUARANTINE) for part in self._parts]
        if self.storage.read(REFUSED) is not None:  # of the newest catalogue; what older ones refused counts no longer
            for number, part in enumerate(self._parts):
                found = tables[number].iloc[len(read_parquet(part.storage, REFUSED)) :]
                tables[number] = found[~found["object_id"].isin(self._removed_from(number))]
            tables.insert(0, read_parquet(self.storage, REFUSED))
        return pd.concat([table.astype(object) for table in tables], ignore_index=True)

    def has(self, name: str) -> bool:
        """Whether every part has an array of that name, such as `invvar`."""
        return all(name in part.layout.objects(0) for part in self._parts)

    def __len__(self) -> int:
        """Number of rows, valid or not."""
        return int(sum(live.sum() for live in self._live))

    def read_shard(self, i: int, name: str = "images") -> np.ndarray:
        """Pixels of one shard, checked against the ledger and read at once.

        Returns
        -------
        ndarray
            (n, C, H, W) raw, for `shards[i].rows`; zero where the state is not valid.

        Raises
        ------
        LostShardError, DamagedShardError
            If the shard is not as it was written.
        """
        shard = self.shards[i]
        part = self._parts[shard.part]
        record = self._record(shard)
        if name not in part.layout.objects(shard.index):
            raise StampStoreError(f"{part.storage.location} has no array {name!r}")
        data = ledger.read_verified(part.storage, record, part.layout.objects(shard.index)[name])
        pixels = shard_pixels(data, part.layout, shard.index, part.layout.dtype_of(name))
        if pixels is None:
            raise DamagedShardError(
                f"stamp shard {shard.index} of {part.storage.location} lies otherwise than this code writes shards; "
                "read it with Zarr, or run ingest again"
            )
        span = part.layout.span(shard.index)
        return pixels if len(shard.offsets) == span.stop - span.start else pixels[shard.offsets]

    def read_rows(self, rows: Sequence[int] | np.ndarray, name: str = "images") -> np.ndarray:
        """Pixels of any valid rows in the order asked, each shard read once.

        Raises
        ------
        StampStoreError
            If a row does not exist or has no stamp.
        """
        rows = self.check_rows(rows)
        where, offsets = self.locate(rows)
        layout = self._parts[0].layout
        pixels = np.empty((len(rows), *layout.stamp_shape), layout.dtype_of(name))
        for i in np.unique(where):
            wanted = np.flatnonzero(where == i)
            pixels[wanted] = self.read_shard(int(i), name)[offsets[wanted]]
        return pixels

    def check_rows(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The rows as int64, refused if one does not exist or has no stamp."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise StampStoreError(f"rows run from {rows.min()} to {rows.max()}; {self.root} has 0 to {len(self) - 1}")
        bad = rows[self.states[rows] != VALID]
        if len(bad):
            state = STATES[self.states[bad[0]]]
            raise StampStoreError(
                f"{len(bad)} of the rows asked for have no stamp, the first is row {bad[0]} ({state}); "
                "ask only for rows whose `state` is valid"
            )
        return rows

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard (place in `shards`) and place in that shard's pixels, of each row."""
        starts = np.array([shard.rows[0] for shard in self.shards])
        where = np.searchsorted(starts, rows, side="right") - 1
        return where, rows - starts[where]

    @cached_property
    def _live(self) -> list[np.ndarray]:
        live = []
        for number, part in enumerate(self._parts):
            gone = self._removed_from(number)
            mask = np.ones(part.layout.rows, bool)
            if gone:
                mask = ~self._catalogue(number, ["object_id"])["object_id"].isin(gone).to_numpy()
            live.append(mask)
        return live

    @cached_property
    def _names(self) -> list[list[str]]:
        return [column_names(part.storage, CATALOGUE) for part in self._parts]

    def _removed_from(self, number: int) -> list[str]:
        """Ids that do not count any more in a part."""
        return [stone["object_id"] for stone in self._manifest["tombstones"] if number < stone["parts"]]

    def _catalogue(self, number: int, columns: list[str] | None = None) -> pd.DataFrame:
        storage = self._parts[number].storage
        try:
            return read_parquet(storage, CATALOGUE, columns)
        except FileNotFoundError:
            raise IncompletePartError(f"no catalogue at {storage.where(CATALOGUE)}; run ingest again") from None

    def _record(self, shard: Shard) -> ledger.ShardRecord:
        part = self._parts[shard.part]
        record = ledger.read_record(part.storage, shard.index)
        if record is None:
            raise IncompletePartError(
                f"shard {shard.index} of {part.storage.location} is not in the ledger; run ingest again"
            )
        return record


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of parts as one, a missing text being None."""
    joined = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0].reset_index(drop=True)
    for name in joined.columns:
        if str(name).startswith(TEXT_OR_NONE):
            values = joined[name].astype(object)
            joined[name] = values.where(values.notna(), None)
    return joined


def unpublish(root: Path | str) -> None:
    """Take `dataset.json` away, before one of its parts is made anew."""
    open_storage(root).delete(MANIFEST)


def publish(
    root: Path | str, parts: Sequence[str], tombstones: Sequence[Mapping[str, Any]] = (), family: str = ""
) -> dict[str, Any]:
    """Write `dataset.json`: the finalised parts in order, and what was removed from them.

    Parameters
    ----------
    parts
        Paths of the parts, relative to `root`, or below `..` to those of an older dataset.
    tombstones
        `object_id`, and `parts`: it is removed from so many first parts.
    family
        See `StampDataset.family`.

    Raises
    ------
    IncompletePartError
        If a part is not finalised.
    StampStoreError
        If the parts differ in units, bands or size, or an object is in two of them.
    """
    storage = open_storage(root)
    entries, layouts = [], []
    for path in parts:
        proof = storage.read(f"{path}/{PROOF}")
        if proof is None:
            raise IncompletePartError(f"part {path} of {storage.location} is not finalised; run ingest again")
        layouts.append(Part(storage.child(path)).layout)
        entries.append({"path": path, "rows": layouts[-1].rows, "digest": json.loads(proof)["digest"]})
    kinds = {(layout.units, layout.bands, layout.stamp_size) for layout in layouts}
    if len(kinds) != 1:
        raise StampStoreError(
            f"parts of {storage.location} differ in units, bands or stamp size: {sorted(map(str, kinds))}"
        )
    units, bands, stamp_size = kinds.pop()
    removed = sorted(({"object_id": stone["object_id"], "parts": stone["parts"]} for stone in tombstones), key=str)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "units": units,
        "bands": list(bands),
        "stamp_size": stamp_size,
        "parts": entries,
        "tombstones": removed,
        "family": family,
        "digest": canonical_digest({"parts": [entry["digest"] for entry in entries], "tombstones": removed}),
    }
    ids = StampDataset(storage, manifest).column("object_id") if len(parts) > 1 else pd.Series(dtype=object)
    if ids.duplicated().any():
        raise StampStoreError(
            f"object {ids[ids.duplicated()].iloc[0]} is in two parts of {storage.location}; "
            "remove it from the older one first"
        )
    storage.write(MANIFEST, json.dumps(manifest, sort_keys=True, indent=2).encode())
    return manifest
