"""What the models say about one shard, as one file that is there whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from galaxy_models.predictor import Predictor
from infra.errors import GalaxyError
from infra.stage_folder import write_atomic
from tasks.stamps.dataset import StampDataset
from tasks.track.answers import answer

PREFIXES = {"galaxy-lvm": "", "galaxy-morphology": "", "galaxy-lens-finder": "", "galaxy-align": "align_"}
"""Put before a model's column names in the catalogue, since several models have an `embedding` and `p_` columns."""

REFUSED = "refused"
UNANSWERED = "unanswered"
BOXES = pa.list_(pa.list_(pa.float32()))


def column_name(model: str, column: str) -> str:
    """Name in the catalogue of a model's column."""
    return PREFIXES.get(model, model.removeprefix("galaxy-").replace("-", "_") + "_") + column


def shard_file(folder: Path, shard: int) -> Path:
    """Where the answers for a shard are kept."""
    return folder / "shards" / f"{shard:06d}.parquet"


def predict_shard(
    dataset: StampDataset, shard: int, predictors: Mapping[str, Predictor], reasons: Mapping[str, str], folder: Path
) -> None:
    """Ask every model about every valid stamp of a shard and keep the answers, unless they are kept already.

    Parameters
    ----------
    predictors
        Registered name to model.
    reasons
        Object id to why it has no stamp, for those that have none.
    """
    path = shard_file(folder, shard)
    rows = dataset.shards[shard].rows
    if path.is_file() and pq.read_metadata(path).num_rows == len(rows):
        return
    table = _answers(dataset, shard, predictors, reasons)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def _answers(
    dataset: StampDataset, shard: int, predictors: Mapping[str, Predictor], reasons: Mapping[str, str]
) -> pa.Table:
    rows = dataset.shards[shard].rows
    catalog = dataset.catalog.iloc[rows]
    valid = (catalog["state"] == "valid").to_numpy()
    places = np.flatnonzero(valid)
    columns: dict[str, pa.Array] = {"row": pa.array(rows, pa.int64())}
    silent: dict[int, list[str]] = {int(place): [] for place in places}
    if len(places):
        stamps = dataset.read_shard(shard)[places]
        scales = catalog["pixel_scale"].to_numpy(dtype=np.float64)[places]
        for model, predictor in sorted(predictors.items()):
            answers = answer(predictor, stamps, dataset.units, dataset.bands, scales)
            answered = np.ones(len(places), dtype=bool)
            answered[list(answers.refused)] = False
            for place, reason in answers.refused.items():
                silent[int(places[place])].append(f"{model}: {reason}")
            for name, values in answers.columns.items():
                columns[column_name(model, name)] = _spread(values, places[answered], answered, len(rows), model)
    refused = np.full(len(rows), None, dtype=object)
    for place in np.flatnonzero(~valid).tolist():
        refused[place] = reasons.get(str(catalog["object_id"].iloc[place]), str(catalog["state"].iloc[place]))
    unanswered = np.full(len(rows), None, dtype=object)
    for place, said in silent.items():
        if said and len(said) == len(predictors):
            refused[place] = "no model accepts it"
        unanswered[place] = "; ".join(said) or None
    columns[REFUSED] = pa.array(refused, pa.string())
    columns[UNANSWERED] = pa.array(unanswered, pa.string())
    return pa.table(columns)


def _spread(
    values: NDArray[Any], places: NDArray[np.int64], answered: NDArray[np.bool_], count: int, model: str
) -> pa.Array:
    """The answers at their places among the shard's rows, null elsewhere (NaN in embeddings)."""
    if values.dtype == object:
        boxes: list[Any] = [None] * count
        for place, value in zip(places, values[answered], strict=True):
            boxes[place] = [list(map(float, box)) for box in value]
        return pa.array(boxes, BOXES)
    if values.ndim == 2:
        vectors = np.full((count, values.shape[1]), np.nan, dtype=np.float16)
        vectors[places] = values[answered].astype(np.float16)
        if not np.isfinite(vectors[places]).all():
            raise GalaxyError(f"{model} gives embeddings that are not finite in half precision; train it again")
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), values.shape[1])
    numbers = np.zeros(count, dtype=np.float32)
    missing = np.ones(count, dtype=bool)
    numbers[places], missing[places] = values[answered], False
    return pa.array(numbers, mask=missing)


def common_schema(folder: Path, shards: int) -> pa.Schema:
    """Columns of all shards' files; one without a valid stamp has none of the models' columns.

    Raises
    ------
    GalaxyError
        If no model answered for any stamp.
    """
    schema = pa.unify_schemas([pq.read_schema(shard_file(folder, shard)) for shard in range(shards)])
    if len(schema) == 3:
        first = pd.Series(pq.read_table(shard_file(folder, 0), columns=[UNANSWERED])[UNANSWERED].to_pandas()).dropna()
        raise GalaxyError(
            f"no model answered for any stamp: {first.iloc[0] if len(first) else 'there is no valid one'}"
        )
    return schema


def read_shard_file(folder: Path, shard: int, schema: pa.Schema) -> pa.Table:
    """The answers for a shard, with every column of `schema`."""
    table = pq.read_table(shard_file(folder, shard))
    missing = [field for field in schema if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names)
