"""The prepared dataset: flags, groups, splits and statistics beside the stamps, which stay where they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.stage_folder import canonical_digest, write_atomic
from tasks.stamps.content import frame_digest
from tasks.stamps.dataset import StampDataset

SCHEMA_VERSION = 1
MANIFEST, TABLE, STATISTICS = "prepared.json", "prepared.parquet", "statistics.json"


@dataclass(frozen=True)
class PreparedDataset:
    """A catalogue version that points at the stamps it was made from.

    Attributes
    ----------
    dataset
        The stamps; row i of `table` is row i of its catalogue.
    digest
        Of the stamps' digest, the columns and the statistics; nothing else.
    statistics
        See `train_statistics`.
    """

    folder: Path
    dataset: StampDataset
    digest: str
    statistics: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> PreparedDataset:
        """Open what `preprocess` made.

        Raises
        ------
        GalaxyError
            If there is nothing, or the stamps are no longer those that were prepared.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            statistics = json.loads((folder / STATISTICS).read_text())
        except FileNotFoundError as error:
            raise GalaxyError(f"no prepared dataset at {folder}: {error.filename} is missing; run preprocess") from None
        if manifest["schema_version"] != SCHEMA_VERSION:
            raise GalaxyError(
                f"{folder} has schema version {manifest['schema_version']}; this code reads {SCHEMA_VERSION}; "
                "run preprocess again"
            )
        dataset = StampDataset.open(manifest["dataset"])
        if dataset.digest != manifest["dataset_digest"]:
            raise GalaxyError(
                f"the stamps at {manifest['dataset']} have changed since {folder} was made; run preprocess again"
            )
        return cls(folder, dataset, manifest["digest"], statistics)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The stamps' catalogue with `split`, `usable`, `duplicate_group`, `flag_*` and the measures."""
        own = pd.read_parquet(self.folder / TABLE)
        catalog = self.dataset.catalog
        return pd.concat([catalog, own.drop(columns="object_id")], axis=1)

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
        table = self.table
        chosen = (table["split"] == split) & (table["usable"] if usable else table["state"] == "valid")
        if source is not None:
            chosen &= table["source"] == source
        return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def write_prepared(
    folder: Path, dataset: StampDataset, own: pd.DataFrame, statistics: dict[str, Any]
) -> PreparedDataset:
    """Publish a prepared dataset; the manifest is written last.

    Parameters
    ----------
    own
        `object_id` and the columns of preprocess, row for row with the dataset's catalogue.
    """
    parquet = own.to_parquet(index=False)
    assert isinstance(parquet, bytes)
    write_atomic(folder / TABLE, parquet)
    write_atomic(folder / STATISTICS, json.dumps(statistics, indent=2, sort_keys=True).encode())
    digest = canonical_digest(
        {"stamps": dataset.digest, "columns": frame_digest(own), "statistics": canonical_digest(statistics)}
    )
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "digest": digest,
        "dataset": dataset.root,
        "dataset_digest": dataset.digest,
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True).encode())
    return PreparedDataset.open(folder)
