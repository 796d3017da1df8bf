"""Random choices that are a function of a seed and a row alone, so that they hold for ever without being kept."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HELD_BACK = 0.1
"""Share of the galaxies that is never trained on, most; for the test."""

MOST_HELD_BACK = 2000
"""Galaxies: more than anybody labels."""


def lot(seed: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """(n,) a random number for each row: the finaliser of MurmurHash3 (fmix64) over row and seed."""
    mixed = np.asarray(rows).astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed ^= mixed >> np.uint64(33)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def in_random_order(seed: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows in an order that the seed decides."""
    return np.asarray(rows)[np.argsort(lot(seed, rows), kind="stable")]


def held_back(
    seed: int, searchable: NDArray[np.bool_], groups: NDArray[np.int64], examples: Iterable[int]
) -> NDArray[np.int64]:
    """Rows that are held back from training, in the order in which they are labelled for the test.

    Any first part of them is a random sample of all galaxies but the examples that the search was begun with: one
    searchable row of each duplicate group.

    Parameters
    ----------
    searchable
        (N,).
    groups
        (N,) rows with the same number are one object.
    examples
        Rows.
    """
    rows = np.flatnonzero(searchable).astype(np.int64)
    rows = rows[~np.isin(groups[rows], groups[np.fromiter(examples, np.int64)])]
    _, first = np.unique(groups[rows], return_index=True)
    population = rows[np.sort(first)]
    count = min(int(len(population) * HELD_BACK), MOST_HELD_BACK)
    return in_random_order(seed, population)[:count]
