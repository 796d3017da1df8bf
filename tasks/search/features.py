"""What a search looks at in a catalogue, as the preference learner takes it: standardised, memory-mapped."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galaxy_models.preference import standardise
from galaxy_models.search_view import View
from infra.errors import GalaxyError
from infra.settings import Settings
from infra.stage_folder import canonical_digest
from tasks.infer.publish import EMBEDDINGS, PREDICTIONS, PROOF, full_disk
from tasks.reserved_array import create_reserved

MODEL = "galaxy-lvm"
"""Whose embeddings a search looks at."""

FEATURES, STANDARD = "features.npy", "standard.json"
BLOCK = 8192
"""Rows that are standardised together."""


@dataclass(frozen=True)
class SearchFeatures:
    """What a search looks at; row i is row i of the catalogue and of the stamp dataset.

    Attributes
    ----------
    features
        (N, D) float32, read-only memory map: what is seen (`search_view`), with mean 0 and spread 1 over the rows that
        have it; a row that has nothing is NaN.
    object_id, ra, dec
        (N,); positions in degrees, NaN where there is none.
    survey, digest
        Name of the survey, and digest of the catalogue.
    dataset_digest
        Of the stamps.
    model, model_version
        Registered name and version of the model that made the embeddings.
    mean, spread
        (D,) of what is seen: standardised is (seen - mean) / spread.
    view
        What is seen beside the embedding.
    """

    features: NDArray[np.float32]
    object_id: NDArray[np.object_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    dataset_digest: str
    model: str
    model_version: str
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    survey: str = ""
    digest: str = ""
    view: View = field(default_factory=View)

    @classmethod
    def open(cls, catalogue: Path, cache: Path) -> SearchFeatures:
        """Open what `infer` published; the features are made in `cache` if they are not there, whole or not at all.

        Parameters
        ----------
        catalogue
            Folder with predictions, embeddings and proof.
        cache
            Folder for features; several catalogues share it, and several processes may open at once.

        Raises
        ------
        GalaxyError
            If the folder is no catalogue, or has no embeddings of the vision model, or the disk is full.
        """
        proof = read_proof(catalogue)
        embeddings = catalogue / EMBEDDINGS
        if not embeddings.is_file() or MODEL not in proof.get("models", {}):
            raise GalaxyError(
                f"{catalogue} has no embeddings of {MODEL}; run `galaxy run --stages pretrain,infer` first"
            )
        view = view_of(catalogue)
        origin = {"catalogue": proof["digest"], "embeddings": proof["files"][EMBEDDINGS]["sha256"]}
        folder = cache / canonical_digest({**origin, "columns": list(view.columns)})[:16]
        if not folder.is_dir():
            with full_disk(folder):
                _make(np.load(embeddings, mmap_mode="r", allow_pickle=False), catalogue / PREDICTIONS, view, folder)
        standard = json.loads((folder / STANDARD).read_text())
        table = pq.read_table(catalogue / PREDICTIONS, columns=["object_id", "ra", "dec"])
        return cls(
            features=np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False),
            object_id=table["object_id"].to_numpy(),
            ra=np.asarray(table["ra"].to_numpy(), np.float64),
            dec=np.asarray(table["dec"].to_numpy(), np.float64),
            dataset_digest=str(proof["dataset_digest"]),
            model=MODEL,
            model_version=str(proof["models"][MODEL]),
            mean=np.array(standard["mean"], np.float32),
            spread=np.array(standard["spread"], np.float32),
            survey=str(proof.get("survey", "")),
            digest=str(proof["digest"]),
            view=view,
        )


def feature_cache(settings: Settings) -> Path:
    """Where a home keeps the features of its catalogues."""
    return settings.home / "label" / "features"


def view_of(catalogue: Path) -> View:
    """What a published catalogue has for searches beside the embedding."""
    return View.among(pq.read_schema(catalogue / PREDICTIONS).names)


def read_proof(catalogue: Path) -> dict[str, Any]:
    """What a published catalogue says of itself; raises GalaxyError if the folder is none."""
    try:
        return dict(json.loads((catalogue / PROOF).read_text()))
    except FileNotFoundError:
        raise GalaxyError(
            f"{catalogue} is no published catalogue: it has no {PROOF}; run `galaxy run --stages infer`"
        ) from None


def _make(embeddings: NDArray[np.floating[Any]], predictions: Path, view: View, folder: Path) -> None:
    """Write features and standard beside their place, then move both there at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        shape = len(embeddings), embeddings.shape[1] + len(view.columns)
        features = create_reserved(aside / FEATURES, np.float32, shape)
        start = 0
        for seen in _seen(embeddings, predictions, view):
            features[start : start + len(seen)] = seen
            start += len(seen)
        mean, spread = standardise(features)
        for start in range(0, len(features), BLOCK):
            block = features[start : start + BLOCK]
            finite = np.isfinite(block).all(axis=1, keepdims=True)
            features[start : start + BLOCK] = np.where(finite, (block - mean) / spread, np.nan)
        features.flush()
        (aside / STANDARD).write_text(json.dumps({"mean": mean.tolist(), "spread": spread.tolist()}))
        try:
            os.rename(aside, folder)
        except OSError:  # another process was faster, and made the same
            if not (folder / STANDARD).is_file():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _seen(embeddings: NDArray[np.floating[Any]], predictions: Path, view: View) -> Iterator[NDArray[np.float32]]:
    """(n, D) of some rows after the other."""
    if not view.columns:
        for start in range(0, len(embeddings), BLOCK):
            yield view.of_columns({"embedding": embeddings[start : start + BLOCK]})
        return
    start = 0
    for batch in pq.ParquetFile(predictions).iter_batches(BLOCK, columns=list(view.columns)):
        columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in view.columns}
        yield view.of_columns({"embedding": embeddings[start : start + len(batch)], **columns})
        start += len(batch)
