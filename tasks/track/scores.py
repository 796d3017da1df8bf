"""What a registered version earns on an evaluation set, asked through its own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_models.metrics import knn_precision
from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.evaluation_errors import STEMS, errors, known_names
from tasks.stamps.dataset import StampDataset
from tasks.track.answers import answer_rows
from tasks.track.registry import load_registered

Rescore = Callable[[str, pd.DataFrame, str], pd.DataFrame]
"""Takes a version number, an evaluation table and a metric's name; gives the table with the column `score`."""

NEIGHBOURS = 10


def asker(settings: Settings, name: str, dataset: StampDataset, batch_size: int = 128) -> Rescore:
    """What asks versions of `name` about objects of `dataset`; raises GalaxyError where one cannot answer."""

    def ask(version: str, table: pd.DataFrame, metric: str) -> pd.DataFrame:
        rows = _rows(dataset, table)
        predictor = load_registered(settings, name, version)
        predictor.batch_size = batch_size
        answers = answer_rows(predictor, dataset, rows)
        if answers.refused:
            row, reason = next(iter(answers.refused.items()))
            raise GalaxyError(f"{name} version {version} refuses {len(answers.refused)} stamps, as row {row}: {reason}")
        return table.assign(score=score(answers.columns, table, metric))

    return ask


def score(columns: Mapping[str, NDArray[Any]], table: pd.DataFrame, metric: str) -> NDArray[np.float64]:
    """(N,) scores from a model's columns, by what the metric's name ends in.

    `accuracy`: 1 where the most probable class is the label; the classes are the categories of the labels, if they have
    some. `fraction_error` and `scaled_error`: see `tasks/evaluation_errors.py`. `knn_precision`: the share of a query's
    ten nearest in the gallery that have its label, NaN for the gallery (rows whose `role` is not `query`). `auc` and
    `average_precision`: the `lens_score`.

    Raises
    ------
    GalaxyError
        If the model says nothing of that kind, or knows other labels.
    """
    labels = table["label"].to_numpy(dtype=object)
    kind = metric.rpartition(".")[2]
    if kind == "accuracy":
        column = table["label"]
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        classes = sorted(map(str, column.cat.categories if categorical else set(labels)))
        names = _columns_of(columns, classes, "p_", metric.partition(".")[0])
        probabilities = np.stack([columns[name] for name in names], axis=1)
        return (np.array(classes, dtype=object)[probabilities.argmax(axis=1)] == labels).astype(np.float64)
    if kind in STEMS:
        names = _columns_of(columns, known_names(table), STEMS[kind], metric.partition(".")[0])
        return errors(table, np.stack([columns[name] for name in names], axis=1), metric)
    if kind == "knn_precision" and "embedding" in columns and "role" in table:
        query = (table["role"] == "query").to_numpy()
        vectors, codes = columns["embedding"], pd.factorize(labels)[0]
        found = np.full(len(table), np.nan)
        found[query] = knn_precision(vectors[query], codes[query], vectors[~query], codes[~query], NEIGHBOURS)
        return found
    if kind in ("auc", "average_precision") and "lens_score" in columns:
        return np.asarray(columns["lens_score"], dtype=np.float64)
    raise GalaxyError(f"no score for the metric {metric} follows from its columns {', '.join(sorted(columns)[:6])}")


def _columns_of(columns: Mapping[str, NDArray[Any]], wanted: list[str], stem: str, table: str) -> list[str]:
    """The model's columns of a table's classes, answers or parameters, whether or not they carry the table's name."""
    for prefix in (f"{stem}{table}_", stem):
        names = [prefix + name for name in wanted]
        if all(name in columns for name in names):
            return names
    raise GalaxyError(f"it does not know all of {', '.join(wanted)}")


def _rows(dataset: StampDataset, table: pd.DataFrame) -> NDArray[np.int64]:
    places = pd.Series(np.arange(len(dataset)), index=dataset.catalog["object_id"].to_numpy())
    missing = table["object_id"][~table["object_id"].isin(places.index)]
    if len(missing):
        raise GalaxyError(f"object {missing.iloc[0]!r} of the evaluation set is not in the dataset {dataset.root}")
    return places[table["object_id"].to_numpy()].to_numpy(dtype=np.int64)
