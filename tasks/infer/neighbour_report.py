"""Do galaxies that are near in the embedding look alike? Precision among nearest neighbours, and a sheet of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_models.metrics import knn_precision, mean_interval
from tasks.figures import save_grid
from tasks.infer.lens_list import stamps_as_rgb
from tasks.infer.neighbours import nearest
from tasks.infer.publish import EMBEDDINGS
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset
from tasks.train.common import evenly

Rows = NDArray[np.int64]
Vectors = NDArray[np.float16]
QUERIES_ON_SHEET = 8
NEIGHBOURS_ON_SHEET = 7
MOST = {"train": 20_000, "test": 5_000}
"""Stamps of the gallery and queries that are compared each with each, evenly chosen."""


def report_neighbours(
    catalogue: Path, folder: Path, survey: SurveyDefinition, prepared: PreparedDataset, count: int
) -> tuple[dict[str, float], list[Path]]:
    """Measure every label table that feeds `neighbours`, within its source, with every embedding there is.

    Test stamps ask, labelled train stamps of the same source answer: never another survey's, whose background alone
    would tell it apart, and never other test stamps, which may lie in the same field.

    Parameters
    ----------
    catalogue
        Folder of the published catalogue.
    folder
        Where figures go.
    count
        Neighbours that count.

    Returns
    -------
    metrics
        `<table>.neighbour_precision` (share of neighbours with the query's class, mean over queries), its 95 %
        interval `..._low` and `..._high`, the `..._chance` of drawing at random, and the number of `..._queries`;
        `<table>.align_neighbour_...` with the embedding of GalaxAlign.
    figures
        A sheet for each table, with the embedding of the large vision model.
    """
    metrics: dict[str, float] = {}
    figures: list[Path] = []
    for table in survey.tables("neighbours"):
        codes = class_codes(prepared.table, table)
        for path in sorted(catalogue.glob(f"*{EMBEDDINGS}")):
            embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
            gallery, queries = (
                evenly(_labelled(prepared, table, codes, embeddings, split), most) for split, most in MOST.items()
            )
            if not len(gallery) or not len(queries):
                continue
            name = f"{table.name}.{path.name.removesuffix(EMBEDDINGS)}neighbour_precision"
            vectors = [np.asarray(embeddings[rows], dtype=np.float32) for rows in (queries, gallery)]
            hits = knn_precision(vectors[0], codes[queries], vectors[1], codes[gallery], count)
            metrics |= _measured(name, hits, codes, gallery, queries)
            if path.name == EMBEDDINGS:
                figures.append(
                    _sheet(folder / f"{table.name}-neighbours.png", prepared, table, codes, queries, embeddings)
                )
    return metrics, figures


def _measured(name: str, hits: NDArray[np.float64], codes: Rows, gallery: Rows, queries: Rows) -> dict[str, float]:
    low, high = mean_interval(hits, seed=0)
    shares = np.bincount(codes[gallery], minlength=int(codes.max()) + 1) / len(gallery)
    return {
        name: float(hits.mean()),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_chance": float(shares[codes[queries]].mean()),
        f"{name}_queries": float(len(queries)),
    }


def _labelled(prepared: PreparedDataset, table: LabelTable, codes: Rows, embeddings: Vectors, split: str) -> Rows:
    rows = prepared.rows(split, table.source)
    rows = rows[codes[rows] >= 0]
    return np.asarray(rows[np.isfinite(embeddings[rows, 0])], dtype=np.int64)


def _sheet(
    path: Path, prepared: PreparedDataset, table: LabelTable, codes: Rows, queries: Rows, embeddings: Vectors
) -> Path:
    """Queries of as many classes as there are, each with its nearest of the whole source, as a search would find them.

    Classes (a dash where there is no label) and cosines stand underneath.
    """
    usable = (prepared.table["source"] == table.source) & prepared.table["usable"].astype(bool)
    pool = np.flatnonzero(usable.to_numpy() & np.isfinite(embeddings[:, 0]))
    turn = pd.DataFrame({"code": codes[queries]}).groupby("code").cumcount().to_numpy()
    chosen = queries[np.lexsort((codes[queries], turn))[:QUERIES_ON_SHEET]]
    # One more than is shown: a query is its own nearest, but for an exact copy of it.
    places, similarity = nearest(embeddings[pool], min(NEIGHBOURS_ON_SHEET + 1, len(pool)), embeddings[chosen])
    others = pool[places] != chosen[:, None]
    others[others.all(axis=1), -1] = False
    near_rows = pool[places][others].reshape(len(chosen), -1)
    similarity = similarity[others].reshape(len(chosen), -1)
    names = [*class_names(table), "-"]  # code -1 is the last
    lines, captions = [], []
    for query, near, cosines in zip(chosen, near_rows, similarity, strict=True):
        lines.append(list(stamps_as_rgb(prepared.dataset, np.array([query, *near]))))
        said = [f"{names[codes[row]]} {cosine:.3f}" for row, cosine in zip(near, cosines, strict=True)]
        captions.append([f"query: {names[codes[query]]}", *said])
    return save_grid(path, lines, captions=captions, title=f"{table.name}: test stamps and the nearest of their source")
