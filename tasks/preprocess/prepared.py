"""The prepared dataset: flags, groups, splits and statistics beside the stamps, which stay where they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.stage_folder import canonical_digest
from tasks.preprocess.reading import reading_of
from tasks.stamps.content import frame_digest
from tasks.stamps.dataset import StampDataset
from tasks.stamps.row_groups import column_names, one_piece, read_parquet, write_pieces
from tasks.stamps.storage import Storage, open_storage

SCHEMA_VERSION = 2
MANIFEST, TABLE, STATISTICS = "prepared.json", "prepared.parquet", "statistics.json"

ROW_GROUP = 65_536
"""Rows of the table that are written, and may be read, at once."""


@dataclass(frozen=True)
class PreparedDataset:
    """A catalogue version that points at the stamps it was made from.

    Attributes
    ----------
    dataset
        The stamps; row i of `table` is row i of its catalogue.
    digest
        Of the stamps' digest, the columns, the statistics and the recipe for readers; nothing else.
    statistics
        See `train_statistics`.
    reading
        How stamps become model input: see `reading_of`.
    """

    storage: Storage
    dataset: StampDataset
    digest: str
    statistics: dict[str, Any]
    reading: dict[str, Any]

    @classmethod
    def open(cls, root: Path | str) -> PreparedDataset:
        """Open what `preprocess` made, at a path or URL.

        Raises
        ------
        GalaxyError
            If there is nothing, or the stamps are no longer those that were prepared.
        """
        storage = open_storage(root)
        manifest, statistics = (json.loads(_read(storage, key)) for key in (MANIFEST, STATISTICS))
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise GalaxyError(
                f"{storage.location} has schema version {manifest['schema_version']}; this code reads "
                f"{SCHEMA_VERSION}; run preprocess again"
            )
        dataset = StampDataset.open(manifest["dataset"])
        if dataset.digest != manifest["dataset_digest"]:
            raise GalaxyError(
                f"the stamps at {manifest['dataset']} have changed since {storage.location} was made; "
                "run preprocess again"
            )
        return cls(storage, dataset, manifest["digest"], statistics, manifest["reading"])

    @property
    def root(self) -> str:
        """Path or URL of the prepared dataset."""
        return self.storage.location

    @cached_property
    def table(self) -> pd.DataFrame:
        """The stamps' catalogue with `split`, `usable`, `duplicate_group`, `flag_*` and the measures.

        `coverage` is that of `describe_rows`, whatever the catalogue says.
        """
        return self.columns(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Columns of `table`."""
        return [*(name for name in self.dataset.names if name not in self._own), *self._own]

    def columns(self, names: Sequence[str]) -> pd.DataFrame:
        """Some columns of `table`, in this order, without reading the others."""
        own = [name for name in names if name in self._own]
        others = [name for name in names if name not in self._own]
        tables = [read_parquet(self.storage, TABLE, own)] if own else []
        if others or not own:
            tables.append(self.dataset.columns(others))
        return pd.concat(tables, axis=1)[list(names)]

    def rows(self, split: str, source: str | None = None, usable: bool = True) -> np.ndarray:
        """(n,) int64 rows of a split that have a stamp, ascending.

        Parameters
        ----------
        split
            `train`, `validation`, `test` or `guard`.
        source
            Only of this source.
        usable
            Only stamps without a flag that the definition acts on; otherwise all valid ones.
        """
        names = self._choice
        chosen = (names["split"] == split) & (names["usable"] if usable else names["state"] == "valid")
        if source is not None:
            chosen &= names["source"] == source
        return np.flatnonzero(chosen.to_numpy()).astype(np.int64)

    @cached_property
    def _own(self) -> list[str]:
        """Columns of preprocess; the object ids beside them only tell the rows apart."""
        try:
            names = column_names(self.storage, TABLE)
        except FileNotFoundError:
            raise _missing(self.storage, TABLE) from None
        return [name for name in names if name != "object_id"]

    @cached_property
    def _choice(self) -> pd.DataFrame:
        return self.columns(["split", "usable", "state", "source"])


def write_prepared(
    root: Path | str, dataset: StampDataset, own: pd.DataFrame, statistics: dict[str, Any]
) -> PreparedDataset:
    """Publish a prepared dataset at a path or URL; the manifest is written last.

    Parameters
    ----------
    own
        `object_id` and the columns of preprocess, row for row with the dataset's catalogue.
    """
    storage, reading = open_storage(root), reading_of(dataset)
    storage.delete(MANIFEST)
    write_pieces(storage, TABLE, one_piece(own), ROW_GROUP)
    storage.write(STATISTICS, _json(statistics))
    content = {
        "stamps": dataset.digest,
        "columns": frame_digest(own),
        "statistics": canonical_digest(statistics),
        "reading": canonical_digest(reading),
    }
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "digest": canonical_digest(content),
        "dataset": dataset.root,
        "dataset_digest": dataset.digest,
        "reading": reading,
    }
    storage.write(MANIFEST, _json(manifest))
    return PreparedDataset.open(root)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, sort_keys=True).encode()


def _read(storage: Storage, key: str) -> bytes:
    content = storage.read(key)
    if content is None:
        raise _missing(storage, key)
    return content


def _missing(storage: Storage, key: str) -> GalaxyError:
    return GalaxyError(f"no prepared dataset at {storage.location}: {storage.where(key)} is missing; run preprocess")
