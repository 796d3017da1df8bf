"""What the training stages share: reading prepared stamps, describing inputs, fixed evaluation sets, digests."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.card import WEIGHTS_FILE
from galaxy_models.inputs import SIZE_STEP, InputError, InputSpec
from galaxy_models.photometry import VIEWER_SCALES
from infra.errors import GalaxyError
from infra.profile import TrainingSettings
from infra.stage_folder import canonical_digest
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.stamps.loader import StampBatches

Rows = NDArray[np.int64]


def open_prepared(context: StageContext) -> PreparedDataset:
    """The prepared dataset that the stage reads; raises GalaxyError if no usable train stamp is in it."""
    prepared = PreparedDataset.open(context.upstream["preprocess"]["prepared"])
    if not len(prepared.rows("train")):
        raise GalaxyError(
            f"survey {context.survey.name}: no usable train stamp is left after preprocess; look at its flags and "
            "splits, and loosen `quality` in the survey definition or add objects"
        )
    return prepared


def choose_device(threads: int) -> str:
    """`cuda` where there is one, else `cpu` with so many threads."""
    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"


def training_options(context: StageContext, settings: TrainingSettings, prepared: PreparedDataset) -> dict[str, Any]:
    """What `fit` takes from every training section of a profile, and from the stage."""
    object_ids = prepared.table["object_id"].to_numpy(dtype=str)
    return {
        "checkpoint_steps": settings.checkpoint_steps,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "batch_size": settings.batch_size,
        "accumulate": settings.accumulate,
        "ema_decay": settings.ema_decay,
        "compiled": settings.compile,
        "progress": context.progress,
        "record": context.record,
        "object_ids": lambda rows: object_ids[list(rows)].tolist(),
        "threads": context.profile.threads,
    }


def code_version() -> str:
    """Version of the installed project, for model cards."""
    return version("galaxy-lvm")


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) of a model folder's weights file."""
    with (folder / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def evenly(rows: Rows, count: int) -> Rows:
    """At most `count` of the rows, evenly over their order."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def stamps_in_order(prepared: PreparedDataset, rows: Rows, batch_size: int) -> Iterator[Tensor]:
    """Raw stamps (n, C, H, W) of `rows`, in their order, a batch at a time."""
    if len(rows):
        for batch in StampBatches(prepared.dataset.root, rows, batch_size, 0, shuffle=False, repeat=False):
            yield batch["images"]


def sample_stamps(prepared: PreparedDataset, rows: Rows, count: int, shards: int = 8) -> Tensor:
    """About `count` raw stamps of `rows` from a few shards that lie evenly over the dataset, for quick statistics."""
    holding = [shard for shard in prepared.dataset.shards if np.isin(shard.rows, rows).any()]
    chosen = [holding[i] for i in sorted({int(i) for i in np.linspace(0, len(holding) - 1, shards)})]
    share = -(-count // len(chosen))
    picked = [evenly(np.intersect1d(shard.rows, rows), share) for shard in chosen]
    return torch.from_numpy(prepared.dataset.read_rows(np.concatenate(picked)))


ANY_PIXEL_SCALE = (0.03, 1.0)
"""From space telescopes to photographic plates, "/px."""


def input_spec(
    survey: SurveyDefinition, table: pd.DataFrame, rows: Rows, crop: int, binning: int, resize: float = 0.0
) -> InputSpec:
    """What a model that is trained on `rows` accepts.

    Parameters
    ----------
    table
        The prepared catalogue.
    resize
        Relative change of size by augmentation: it widens the range of pixel scales by as much.

    Raises
    ------
    GalaxyError
        If crop and binning do not fit the survey's stamps.
    """
    if crop > survey.stamp_size:
        largest = survey.stamp_size // (SIZE_STEP * binning) * SIZE_STEP * binning
        raise GalaxyError(
            f"profile: `crop` is {crop} px, but survey {survey.name} has stamps of {survey.stamp_size} px; "
            f"lower `crop`, to {largest} at most, or raise `stamp_size`"
        )
    scales = table["pixel_scale"].to_numpy(dtype=float)[rows]
    known = scales[np.isfinite(scales)]
    unknown = len(known) < len(scales)
    # Pictures of unknown scale are framed to the galaxy: what learnt from them cannot hold anyone to a scale.
    lowest, highest = ANY_PIXEL_SCALE if unknown else (float(known.min()), float(known.max()))
    try:
        return InputSpec(
            bands=_flux_bands(survey),
            stamp_size=survey.stamp_size,
            crop=crop,
            binning=binning,
            pixel_scale=(math.floor(1e4 * lowest / (1 + resize)) / 1e4, math.ceil(1e4 * highest / (1 - resize)) / 1e4),
            unknown_pixel_scale=unknown,
        )
    except InputError as error:
        raise GalaxyError(f"profile: {error}") from None


def _flux_bands(survey: SurveyDefinition) -> tuple[str, ...]:
    """Bands in which a model takes fluxes: the survey's, or those that its pictures were made of."""
    if survey.units == "nanomaggy":
        return tuple(survey.bands)
    bands = tuple(survey.sources[0].survey_bands)
    return bands if len(bands) == 3 and set(bands) <= set(VIEWER_SCALES) else ("g", "r", "z")


def write_evaluation(
    folder: Path, scores: pd.DataFrame, metric: str, *, higher_is_better: bool, digest_columns: tuple[str, ...]
) -> dict[str, Any]:
    """Keep the fixed evaluation set, so that other versions of the model can be scored on it.

    Parameters
    ----------
    scores
        One row per object: `object_id`, `label`, optionally `positive`, and whatever else the metric needs.
    digest_columns
        Columns that say what the set is, apart from how this version did on it.

    Returns
    -------
    dict
        `metric`, `higher_is_better`, `scores` (path of the Parquet file) and `digest` of the set.
    """
    path = folder / "evaluation.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    scores.reset_index(drop=True).to_parquet(temporary)
    temporary.replace(path)
    content = {name: scores[name].astype(str).tolist() for name in digest_columns}
    return {
        "metric": metric,
        "higher_is_better": higher_is_better,
        "scores": str(path),
        "digest": canonical_digest({"metric": metric, **content}),
    }
