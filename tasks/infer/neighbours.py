"""Nearest neighbours of embeddings by cosine, exactly, in memory that does not grow with the catalogue."""

from __future__ import annotations

import numpy as np

from infra.errors import GalaxyError

BLOCK = 2048
"""Queries, and embeddings, that are compared at once: a table of similarities of 16 MB."""


def nearest(embeddings: np.ndarray, k: int, queries: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar embeddings of each query.

    Parameters
    ----------
    embeddings
        (N, D) floats; any array that gives float rows by slices, a memory map too. They need no unit length.
    k
        Neighbours wanted, 1 or more.
    queries
        (Q, D); without them every embedding asks for its neighbours among the others, itself left out.

    Returns
    -------
    indices, similarities
        (Q, k) int64 rows of `embeddings` and (Q, k) float32 cosines in -1..1, best first; equal ones in the order
        of the rows. The cosine of an embedding of length zero is 0 with everything.

    Raises
    ------
    GalaxyError
        If there are fewer than k to choose from, the sizes differ, or a number is not finite.
    """
    alone = queries is None
    asked = embeddings if queries is None else queries
    choice = len(embeddings) - alone
    if k < 1 or k > choice:
        raise GalaxyError(f"{k} neighbours were asked for; among {len(embeddings)} embeddings 1 to {choice} can be had")
    if asked.ndim != 2 or embeddings.ndim != 2 or asked.shape[1] != embeddings.shape[1]:
        raise GalaxyError(
            f"queries have shape {asked.shape} and embeddings {embeddings.shape}; give (Q, D) and (N, D) of one model"
        )
    indices = np.empty((len(asked), k), np.int64)
    similarities = np.empty((len(asked), k), np.float32)
    for start in range(0, len(asked), BLOCK):
        block = slice(start, min(start + BLOCK, len(asked)))
        own = np.arange(block.start, block.stop) if alone else None
        indices[block], similarities[block] = _nearest_of_block(_unit(asked[block], start), embeddings, k, own)
    return indices, similarities


def _nearest_of_block(
    queries: np.ndarray, embeddings: np.ndarray, k: int, own: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Go through the embeddings block by block and keep the k best so far; `own` are the queries' own rows."""
    best = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(embeddings), BLOCK):
        unit = _unit(embeddings[start : start + BLOCK], start)
        cosines = np.clip(queries @ unit.T, -1, 1)
        if own is not None:
            inside = np.flatnonzero((own >= start) & (own < start + len(unit)))
            cosines[inside, own[inside] - start] = -np.inf
        best = np.concatenate([best, cosines], axis=1)
        here = np.broadcast_to(np.arange(start, start + len(unit)), cosines.shape)
        rows = np.concatenate([rows, here], axis=1)
        if best.shape[1] > k:
            kept = _best_columns(best, k)
            best, rows = np.take_along_axis(best, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
    order = np.lexsort((rows, -best), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(best, order, axis=1)


def _best_columns(values: np.ndarray, k: int) -> np.ndarray:
    """(Q, k) columns of the k highest values of each row, in order of column; of equal values the first columns."""
    limit = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
    above, equal = values > limit, values == limit
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), k)


def _unit(vectors: np.ndarray, first: int) -> np.ndarray:
    """The vectors as float32 of length one; `first` is the row of the first, for the message."""
    vectors = np.asarray(vectors, np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise GalaxyError(
            f"embedding {first + int(np.argmin(finite))} has numbers that are not finite; leave such rows out"
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))
