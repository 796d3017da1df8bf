"""Do galaxies that are near in the embedding look alike? Precision among nearest neighbours, and a sheet of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from galaxy_models.metrics import mean_interval
from tasks.figures import save_grid
from tasks.infer.lens_list import stamps_as_rgb
from tasks.infer.neighbours import nearest
from tasks.infer.publish import EMBEDDINGS
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset

Rows = NDArray[np.int64]
QUERIES_ON_SHEET = 8
NEIGHBOURS_ON_SHEET = 7


def report_neighbours(
    catalogue: Path, folder: Path, survey: SurveyDefinition, prepared: PreparedDataset, count: int
) -> tuple[dict[str, float], list[Path]]:
    """Measure every label table that feeds `neighbours`, within its source, with every embedding there is.

    Test stamps ask, labelled train stamps of the same source answer: never another survey's, whose background alone
    would tell it apart.

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
        if table.kind != "classes":
            continue
        codes = class_codes(prepared.table, table)
        for path in sorted(catalogue.glob(f"*{EMBEDDINGS}")):
            embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
            gallery, queries = (_labelled(prepared, table, codes, embeddings, split) for split in ("train", "test"))
            if not len(gallery) or not len(queries):
                continue
            name = f"{table.name}.{path.name.removesuffix(EMBEDDINGS)}neighbour_precision"
            found, similarity = _nearest(embeddings, gallery, queries, count)
            hits = (codes[found] == codes[queries][:, None]).mean(axis=1)
            metrics |= _measured(name, hits, codes, gallery, queries)
            if path.name == EMBEDDINGS:
                figures.append(_sheet(folder / f"{name}.png", prepared, table, codes, queries, found, similarity))
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


def _labelled(
    prepared: PreparedDataset, table: LabelTable, codes: Rows, embeddings: NDArray[np.float16], split: str
) -> Rows:
    rows = prepared.rows(split, table.source)
    rows = rows[codes[rows] >= 0]
    return np.asarray(rows[np.isfinite(embeddings[rows, 0])], dtype=np.int64)


def _nearest(
    embeddings: NDArray[np.float16], gallery: Rows, queries: Rows, count: int
) -> tuple[Rows, NDArray[np.float32]]:
    """(Q, k) rows of the dataset and their similarities, nearest first."""
    vectors = np.asarray(embeddings[gallery], dtype=np.float32)
    asked = np.asarray(embeddings[queries], dtype=np.float32)
    places, similarity = nearest(vectors, min(count, len(gallery)), asked)
    return gallery[np.asarray(places)], np.asarray(similarity, dtype=np.float32)


def _sheet(
    path: Path,
    prepared: PreparedDataset,
    table: LabelTable,
    codes: Rows,
    queries: Rows,
    found: Rows,
    similarity: NDArray[np.float32],
) -> Path:
    """Queries of as many classes as there are, each with its nearest; classes and cosines underneath."""
    names = class_names(table)
    order = pd.DataFrame({"code": codes[queries]}).groupby("code").cumcount().to_numpy()
    chosen = np.lexsort((codes[queries], order))[:QUERIES_ON_SHEET]
    lines, captions = [], []
    for query in chosen:
        near = found[query][:NEIGHBOURS_ON_SHEET]
        pictures = stamps_as_rgb(prepared.dataset, np.concatenate([queries[query : query + 1], near]))
        lines.append(list(pictures))
        said = [f"{names[codes[row]]} {cosine:.2f}" for row, cosine in zip(near, similarity[query], strict=False)]
        captions.append([f"query: {names[codes[queries[query]]]}", *said])
    return save_grid(path, lines, captions=captions, title=f"{path.stem}: test stamps and their nearest train stamps")
