"""The inference stage: every model asked about every stamp, and what they said published as one catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from galaxy_models.predictor import Predictor
from infra.errors import GalaxyError
from infra.stage_folder import canonical_digest
from tasks.infer.lens_list import write_lens_list
from tasks.infer.neighbour_report import report_neighbours
from tasks.infer.publish import PREDICTIONS, PROOF, full_disk, matrix, publish
from tasks.infer.shards import common_schema, predict_shard, read_shard_file, shard_file
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.stamps.content import frame_digest
from tasks.stamps.dataset import StampDataset
from tasks.track.registry import load_registered

LENS_FILE = "lenses.parquet"
CARRIED = ("object_id", "ra", "dec", "healpix", "survey", "source", "bands", "pixel_scale", "field", "state", "split")
"""Columns of the prepared catalogue that the result repeats; `usable` and every flag come with them."""


def infer(context: StageContext) -> dict[str, Any]:
    """Predict for every valid stamp, flagged ones too, with the registered versions that the caller resolved.

    One file per shard is kept in the stage's folder: killed at any moment and started again, the stage asks only about
    the shards that are not there, and ends with the same digest as an undisturbed run.

    Returns
    -------
    dict
        `catalogue` (Parquet; the other files lie beside it), `rows` (answered), `refused` (reason to number),
        `digest` (of the content), `lenses` (ranked list), `proof`, `figures`, `metrics`, `models` (name to version).

    Raises
    ------
    GalaxyError
        If a version is not in the registry, no model answers for any stamp, or the catalogue cannot be proven whole.
    """
    prepared = PreparedDataset.open(context.upstream["preprocess"]["prepared"])
    versions = {name: str(content["version"]) for name, content in sorted(context.upstream["models"].items())}
    if not versions:
        raise GalaxyError("infer was given no model versions; train and register a model first")
    predict_all(context, prepared.dataset, versions)
    return publish_all(context, prepared, versions)


def predict_all(context: StageContext, dataset: StampDataset, versions: Mapping[str, str]) -> None:
    """Make the file of every shard that has none; a model is loaded only if there is one to make."""
    torch.set_num_threads(context.profile.threads)
    shards = len(dataset.shards)
    missing = [shard for shard in range(shards) if not shard_file(context.folder, shard).is_file()]
    if not missing:
        context.progress(shards, shards, "all shards were predicted before")
        return
    settings, predictors = context.profile.infer, dict[str, Predictor]()
    for name, version in versions.items():
        predictors[name] = load_registered(context.settings, name, version)
        predictors[name].batch_size = settings.batch_size
        if hasattr(predictors[name], "hasten"):  # a version runs by the code it was logged with, which may be older
            predictors[name].hasten(bfloat16=settings.bf16, compiled=settings.compile)
    reasons = _reasons(dataset)
    for done, shard in enumerate(missing, start=shards - len(missing)):
        context.progress(done, shards, f"shard {shard}")
        with full_disk(context.folder):
            predict_shard(dataset, shard, predictors, reasons, context.folder)
    context.progress(shards, shards, "publishing")


def publish_all(context: StageContext, prepared: PreparedDataset, versions: Mapping[str, str]) -> dict[str, Any]:
    """Publish the catalogue, the lens list and the figures from the shards' files."""
    dataset, folder = prepared.dataset, context.folder
    schema = common_schema(folder, len(dataset.shards))
    digest = _digest(folder, schema, len(dataset.shards), prepared.digest, versions)
    target = context.settings.catalogues / context.survey.name / folder.name
    origin = {
        "digest": digest,
        "dataset_digest": dataset.digest,
        "survey": context.survey.name,
        "models": dict(versions),
    }
    figures: list[Path] = []

    def lens_list(catalogue: Path) -> None:
        figures.extend(
            write_lens_list(
                catalogue, catalogue / LENS_FILE, context.survey, prepared, context.profile.infer.lens_sheet
            )
        )

    pieces = _pieces(prepared, folder, schema, versions)
    proof = publish(target, pieces, dataset.catalog["object_id"].to_numpy(object), origin, lens_list)
    sheet = target / "lenses.png"
    metrics, more = report_neighbours(target, folder, context.survey, prepared, context.profile.infer.neighbours)
    return {
        "catalogue": str(target / PREDICTIONS),
        "rows": proof["rows_out"],
        "refused": proof["refused"],
        "digest": digest,
        "lenses": str(target / LENS_FILE) if (target / LENS_FILE).is_file() else "",
        "proof": str(target / PROOF),
        "figures": [str(path) for path in ([sheet] if sheet.is_file() else []) + more],
        "metrics": metrics,
        "models": dict(versions),
    }


def _pieces(
    prepared: PreparedDataset, folder: Path, schema: pa.Schema, versions: Mapping[str, str]
) -> Iterator[pa.Table]:
    """The catalogue's rows, a shard at a time: what is known of them, what the models said, and which models."""
    dataset = prepared.dataset
    flags = [name for name in prepared.names if name.startswith("flag_") or name == "usable"]
    carried = [name for name in CARRIED if name in prepared.names]
    known = pa.Table.from_pandas(prepared.columns(carried + flags), preserve_index=False)
    for shard in range(len(dataset.shards)):
        said = read_shard_file(folder, shard, schema)
        piece = known.take(said["row"])
        piece = piece.add_column(0, "row", said["row"])
        for name in schema.names[1:]:
            piece = piece.append_column(schema.field(name), said[name])
        for name, version in versions.items():
            column = pa.array(np.full(len(said), int(version), dtype=np.int32))
            piece = piece.append_column(f"version_{name.replace('-', '_')}", column)
        digests = pa.array(np.full(len(said), dataset.digest, dtype=object), pa.string())
        yield piece.append_column("dataset_digest", digests).replace_schema_metadata(None)


def _digest(folder: Path, schema: pa.Schema, shards: int, prepared_digest: str, versions: Mapping[str, str]) -> str:
    """Of what was said, by which versions, about which dataset; how the files are cut or compressed plays no part."""
    content = []
    for shard in range(shards):
        table = read_shard_file(folder, shard, schema)
        flat = {name: _flat(table[name]) for name in table.column_names}
        content.append(frame_digest(pd.DataFrame(flat)))
    return canonical_digest({"prepared": prepared_digest, "models": dict(versions), "shards": content})


def _flat(column: pa.ChunkedArray) -> Sequence[Any]:
    """A column as values that a digest can be taken of: lists become their JSON."""
    if pa.types.is_fixed_size_list(column.type):
        return [vector.tobytes() for vector in matrix(column).astype("<f2")]
    if pa.types.is_list(column.type):
        return [None if value is None else json.dumps(value) for value in column.to_pylist()]
    values: Sequence[Any] = column.to_pandas()
    return values


def _reasons(dataset: StampDataset) -> dict[str, str]:
    quarantine = dataset.quarantine
    objects = quarantine[quarantine["kind"] == "object"]
    return dict(zip(objects["object_id"].astype(str), objects["reason"].astype(str), strict=True))
