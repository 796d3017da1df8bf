"""Asking one model about stamps of a dataset: as arrays, with every stamp answered or refused with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_models.predictor import Predictor
from tasks.stamps.dataset import StampDataset

Columns = dict[str, NDArray[Any]]


@dataclass
class Answers:
    """What a model said about N stamps.

    Attributes
    ----------
    columns
        Arrays of N rows; NaN, or None in `boxes`, where a stamp was refused. Empty if all were.
    refused
        Place among the N, and why.
    """

    columns: Columns
    refused: dict[int, str] = field(default_factory=dict)


def answer(
    predictor: Predictor, images: NDArray[Any], units: str, bands: Sequence[str], pixel_scales: NDArray[np.float64]
) -> Answers:
    """Ask about raw stamps.

    Parameters
    ----------
    images
        (N, C, H, W) as the stamp store has them: nanomaggies, or RGB as uint8.
    bands
        Of the stamps. A model takes fluxes in the bands of its card alone.
    pixel_scales
        (N,) "/px, NaN for unknown. The model's card says which are legal.
    """
    legal_bands = tuple(predictor.card.inputs.bands)
    if units == "nanomaggy" and tuple(bands) != legal_bands:
        reason = f"fluxes are in the bands {'-'.join(bands)}; the model takes {'-'.join(legal_bands)}"
        return Answers({}, dict.fromkeys(range(len(images)), reason))
    finite = np.isfinite(images).all(axis=(1, 2, 3)) if images.dtype.kind == "f" else np.ones(len(images), bool)
    refused = {int(i): "pixels that are not finite" for i in np.flatnonzero(~finite)}
    scales = np.nan_to_num(np.asarray(pixel_scales, dtype=np.float64), nan=0.0)
    blank = np.zeros((1, *images.shape[1:]), dtype=np.float32)
    for scale in np.unique(scales):
        try:
            predictor.card.inputs.check(blank, units, float(scale))
        except ValueError as error:  # InputError of the model's own copy of the package
            refused |= {int(i): str(error) for i in np.flatnonzero(scales == scale)}
    legal = np.array([i for i in range(len(images)) if i not in refused], dtype=np.int64)
    columns: Columns = {}
    if len(legal):
        stamps = images if len(legal) == len(images) else images[legal]
        for name, values in predictor.predict_checked(torch.from_numpy(stamps), units).items():
            columns[name] = _empty(values, len(images))
            columns[name][legal] = values
    return Answers(columns, dict(sorted(refused.items())))


def answer_rows(predictor: Predictor, dataset: StampDataset, rows: NDArray[np.int64], block: int = 1024) -> Answers:
    """Ask about rows of a dataset, in the order given, `block` stamps in memory at a time."""
    scales = dataset.catalog["pixel_scale"].to_numpy(dtype=np.float64)
    parts: list[tuple[NDArray[np.int64], Answers]] = []
    refused: dict[int, str] = {}
    order = np.argsort(rows, kind="stable")  # neighbours in the store come from one shard
    for start in range(0, len(rows), block):
        places = order[start : start + block]
        part = answer(predictor, dataset.read_rows(rows[places]), dataset.units, dataset.bands, scales[rows[places]])
        parts.append((places, part))
        refused |= {int(places[i]): reason for i, reason in part.refused.items()}
    columns: Columns = {}
    for places, part in parts:
        for name, values in part.columns.items():
            if name not in columns:
                columns[name] = _empty(values, len(rows))
            columns[name][places] = values
    return Answers(columns, dict(sorted(refused.items())))


def _empty(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Room for `count` rows like `values`, with what means "no answer" in them."""
    if values.dtype == object:
        return np.full(count, None, dtype=object)
    return np.full((count, *values.shape[1:]), np.nan, dtype=values.dtype)
