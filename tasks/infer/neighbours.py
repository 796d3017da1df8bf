"""Exact nearest neighbours by cosine, in blocks of bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024
"""Queries compared at a time: with N embeddings, BLOCK x N float32 similarities are held."""


def nearest(
    embeddings: NDArray[np.floating], k: int, queries: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `k` rows most similar to each query row, itself left out.

    Parameters
    ----------
    embeddings
        (N, D); each row is normalised here.
    k
        Neighbours per query; at most N - 1 are given.
    queries
        Rows to ask for; all of them if absent.

    Returns
    -------
    indices, similarities
        (Q, k) row numbers, most similar first, and their cosines. Among equals the lower row number comes first.
    """
    vectors = np.asarray(embeddings, dtype=np.float32)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    asked = np.arange(len(vectors)) if queries is None else np.asarray(queries, dtype=np.int64)
    count = min(k, max(len(vectors) - 1, 0))
    indices = np.empty((len(asked), count), dtype=np.int64)
    similarities = np.empty((len(asked), count), dtype=np.float32)
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        cosines = vectors[rows] @ vectors.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        indices[start : start + len(rows)] = order
        similarities[start : start + len(rows)] = np.take_along_axis(cosines, order, axis=1)
    return indices, similarities
