"""The catalogues that can be searched: published ones with embeddings, and the stamps that they were made from."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from galaxy_models.volunteer_answers import said_by_answers
from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.infer.publish import EMBEDDINGS, PREDICTIONS, PROOF
from tasks.preprocess.duplicates import ARCSEC, unit_vectors
from tasks.preprocess.prepared import MANIFEST, PreparedDataset
from tasks.search.described import AlignedEmbeddings
from tasks.search.features import SearchFeatures, feature_cache
from tasks.stamps.storage import open_storage

MATCH_ARCSEC = 2.0
"""An object counts as the one at a position if it is not farther away."""

BLOCK = 65_536
"""Rows that are compared at once."""

WHAT_TO_RUN = (
    "no catalogue with embeddings in {home} yet. Run `galaxy run --survey NAME --profile laptop` to the end "
    "(it makes stamps, trains galaxy-lvm and publishes the catalogue), then load this page again"
)


@dataclass(frozen=True)
class Catalogue:
    """A catalogue with its stamps; row i is the same object in all of them.

    Attributes
    ----------
    folder
        Where it is published; its name is the catalogue's.
    searchable
        (N,) whether a row has a stamp without a flag that counts, and an embedding.
    groups
        (N,) lowest row of those that are the same object.
    """

    survey: str
    folder: Path
    features: SearchFeatures
    prepared: PreparedDataset
    searchable: NDArray[np.bool_]
    groups: NDArray[np.int64]

    @classmethod
    def open(cls, settings: Settings, folder: Path) -> Catalogue:
        """Open a published catalogue; its features are made standard once, which takes a while.

        Raises
        ------
        GalaxyError
            If the stamps that it was made from are gone, or are others now.
        """
        proof = json.loads((folder / PROOF).read_text())
        survey = str(proof["survey"])
        prepared = _prepared_of(settings, survey, proof["dataset_digest"], folder)
        features = SearchFeatures.open(folder, feature_cache(settings))
        table = prepared.columns(["state", "usable", "duplicate_group"])
        searchable = np.array((table["state"] == "valid") & table["usable"], bool)
        for start in range(0, len(searchable), BLOCK):
            block = slice(start, start + BLOCK)
            searchable[block] &= np.isfinite(features.features[block]).all(axis=1)
        return cls(survey, folder, features, prepared, searchable, table["duplicate_group"].to_numpy(np.int64))

    def __len__(self) -> int:
        return len(self.searchable)

    @property
    def name(self) -> str:
        """Name of its folder, which holds the digest of all that it was made from."""
        return self.folder.name

    @property
    def dataset_digest(self) -> str:
        """Of the stamps."""
        return self.prepared.dataset.digest

    def check_row(self, row: int) -> int:
        """The row, refused if it is none or has no stamp."""
        if not 0 <= row < len(self):
            raise GalaxyError(f"row {row}: the catalogue {self.name} has rows 0 to {len(self) - 1}")
        self.prepared.dataset.check_rows([row])
        return row

    def object_id(self, row: int) -> str:
        """Name of the object."""
        return str(self.features.object_id[row])

    def position(self, row: int) -> tuple[float, float] | None:
        """Right ascension and declination in degrees, None if unknown."""
        ra, dec = float(self.features.ra[row]), float(self.features.dec[row])
        return (ra, dec) if np.isfinite(ra) and np.isfinite(dec) else None

    def row_of(self, object_id: str) -> int | None:
        """The row of an object, None if there is none of that name."""
        [row] = self._names.get_indexer(pd.Index([object_id]))
        return int(row) if row >= 0 else None

    def row_at(self, ra: float, dec: float) -> int | None:
        """The row nearest to a position in degrees, None if none is within MATCH_ARCSEC."""
        tree, rows = self._sky
        if tree is None:
            return None
        longest = 2 * np.sin(MATCH_ARCSEC * ARCSEC / 2)
        distance, place = tree.query(unit_vectors(np.array([ra]), np.array([dec]))[0], distance_upper_bound=longest)
        return int(rows[place]) if np.isfinite(distance) else None

    def values(self, row: int) -> dict[str, Any]:
        """What the catalogue says of an object: the columns that are not empty."""
        file = pq.ParquetFile(self.folder / PREDICTIONS)
        group = int(np.searchsorted(self._group_ends, row, side="right"))
        start = int(self._group_ends[group - 1]) if group else 0
        [record] = file.read_row_group(group).slice(row - start, 1).to_pylist()
        return {name: value for name, value in record.items() if not _is_missing(value)}

    def neighbours(self, vector: NDArray[np.float32], count: int, without: Sequence[int] = ()) -> NDArray[np.int64]:
        """(count,) searchable rows whose features (D,) are nearest, nearest first; one of a duplicate group."""
        distance = np.full(len(self), np.inf, np.float32)
        for start in range(0, len(self), BLOCK):
            block = slice(start, start + BLOCK)
            inside = np.flatnonzero(self.searchable[block]) + start
            distance[inside] = np.square(self.features.features[block][inside - start] - vector).sum(axis=1)
        return self.first(distance, count, without)

    def best_fitting(self, vector: NDArray[np.float32], count: int, without: Sequence[int] = ()) -> NDArray[np.int64]:
        """(count,) searchable rows whose aligned embeddings fit a vector (D,) of words or symbols best, best first."""
        likeness = self.aligned.cosines(vector)
        usable = self.searchable & np.isfinite(likeness)
        return self.first(np.where(usable, -likeness, np.inf).astype(np.float32), count, without)

    def tells(self, symbol: str) -> bool:
        """Whether the answers that the model tells say how likely a galaxy is of a symbol's class."""
        return self.features.view.told and said_by_answers([symbol]) is not None

    def likeliest(self, symbol: str, count: int, without: Sequence[int] = ()) -> NDArray[np.int64]:
        """(count,) searchable rows that volunteers would most likely call by a symbol's class, likeliest first."""
        table = said_by_answers([symbol])
        assert table is not None
        weights = table[:, 0].numpy() * self.features.spread[-len(table) :]  # a sum of logs, whatever its zero is
        cost = np.full(len(self), np.inf, np.float32)
        for start in range(0, len(self), BLOCK):
            block = slice(start, start + BLOCK)
            told = self.features.features[block, -len(table) :] @ weights
            cost[block] = np.where(self.searchable[block], -told, np.inf)
        return self.first(cost, count, without)

    @cached_property
    def aligned(self) -> AlignedEmbeddings:
        """What words and symbols are compared with; raises GalaxyError if the catalogue was made without."""
        return AlignedEmbeddings.open(self.folder)

    def first(
        self, cost: NDArray[np.float32], count: int, without: Sequence[int] | NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """(count,) rows of the least finite cost (N,), one of a duplicate group and none of the groups of `without`."""
        cost[np.isin(self.groups, self.groups[list(without)])] = np.inf
        order = np.argsort(cost, kind="stable")[: 4 * count]
        order = order[np.isfinite(cost[order])]
        _, first = np.unique(self.groups[order], return_index=True)
        return order[np.sort(first)][:count].astype(np.int64)

    @cached_property
    def _names(self) -> pd.Index:
        return pd.Index(self.features.object_id)

    @cached_property
    def _sky(self) -> tuple[cKDTree | None, NDArray[np.int64]]:
        ra, dec = np.asarray(self.features.ra, float), np.asarray(self.features.dec, float)
        known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec) & self.searchable).astype(np.int64)
        return (cKDTree(unit_vectors(ra[known], dec[known])) if len(known) else None), known

    @cached_property
    def _group_ends(self) -> NDArray[np.int64]:
        """Row after the last one of each row group."""
        metadata = pq.read_metadata(self.folder / PREDICTIONS)
        return np.cumsum([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])


class Library:
    """All catalogues of a home folder; each is opened when it is asked for, and stays open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[Path, Catalogue] = {}
        self._lock = threading.Lock()

    def folders(self) -> list[Path]:
        """Folders of those that can be searched, newest first."""
        found = [path.parent for path in self._settings.catalogues.glob(f"*/*/{PROOF}")]
        found = [path for path in found if (path / EMBEDDINGS).is_file() and not path.name.startswith(".")]
        return sorted(found, key=lambda path: (path / PROOF).stat().st_mtime, reverse=True)

    def title(self, folder: Path) -> str:
        """What people know a catalogue by: the survey's name, and when it was published."""
        when = datetime.fromtimestamp((folder / PROOF).stat().st_mtime, UTC)
        return f"{folder.parent.name}, published {when:%Y-%m-%d %H:%M} UTC"

    def catalogue(self, name: str) -> Catalogue:
        """A catalogue by its name, which is compared and never made a path of.

        Raises
        ------
        GalaxyError
            If there is none of that name, or its stamps are gone.
        """
        folders = {path.name: path for path in self.folders()}
        if name not in folders:
            raise GalaxyError(f"no catalogue {name!r}; there are: {', '.join(folders) or 'none'}")
        with self._lock:
            folder = folders[name]
            if folder not in self._open:
                self._open[folder] = Catalogue.open(self._settings, folder)
            return self._open[folder]

    def explain_empty(self) -> str:
        """What to run where there is no catalogue."""
        return WHAT_TO_RUN.format(home=self._settings.home)


def _prepared_of(settings: Settings, survey: str, dataset_digest: str, catalogue: Path) -> PreparedDataset:
    """The prepared dataset of a survey whose stamps have a digest: where its stage's result says that it is."""
    results = sorted((settings.stages / survey).glob("preprocess-*/result.json"), reverse=True)
    for place in [json.loads(path.read_text()).get("prepared", "") for path in results]:
        manifest = json.loads(open_storage(place).read(MANIFEST) or b"{}") if place else {}
        if manifest.get("dataset_digest") == dataset_digest:
            return PreparedDataset.open(place)
    raise GalaxyError(
        f"the stamps of {catalogue} (digest {dataset_digest[:12]}) are not in {settings.stages / survey}; run "
        f"`galaxy run --survey {survey} --stages ingest,preprocess` again"
    )


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
