"""Which rows are one object."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.preprocess.duplicates import ARCSEC, connect, duplicate_groups, equal_pairs, near_pairs, unit_vectors


def catalog_of(ra, dec):
    return pd.DataFrame({"ra": np.asarray(ra, float), "dec": np.asarray(dec, float)})


def groups_of(ra, dec, hashes=None, radius=2.0):
    hashes = pd.Series([f"hash {i}" for i in range(len(ra))] if hashes is None else hashes, dtype=object)
    return duplicate_groups(catalog_of(ra, dec), hashes, radius).tolist()


def test_pairs_are_those_nearer_than_the_radius():
    """Against all separations, computed the slow way, near a pole and across 0h too."""
    generator = np.random.default_rng(0)
    ra = np.concatenate([generator.uniform(0, 360, 60), 359.999 + generator.uniform(0, 0.002, 60)]) % 360
    dec = np.concatenate([89.998 + generator.uniform(0, 0.002, 60), generator.uniform(-0.001, 0.001, 60)])
    vectors = unit_vectors(ra, dec)
    separation = 2 * np.arcsin(np.linalg.norm(vectors[:, None] - vectors[None], axis=-1) / 2) / ARCSEC
    expected = {(i, j) for i, j in zip(*np.nonzero(separation < 1.5), strict=True) if i < j}
    assert {tuple(sorted(pair)) for pair in near_pairs(ra, dec, 1.5).tolist()} == expected
    assert len(expected) > 20


def test_near_objects_are_one_and_chains_hold():
    arcsec = 1 / 3600
    assert groups_of([10, 10 + 1.5 * arcsec, 10 + 3 * arcsec, 11], [0, 0, 0, 0]) == [0, 0, 0, 3]
    assert groups_of([10, 10 + 2.5 * arcsec], [0, 0]) == [0, 1]
    assert groups_of([359.9999, 0.0001], [0, 0]) == [0, 0]
    assert groups_of([10, 190], [90, 90]) == [0, 0]


def test_rows_without_a_position_are_near_nothing():
    assert groups_of([np.nan, np.nan, 5], [np.nan, np.nan, 0]) == [0, 1, 2]


def test_identical_pixels_are_one_object_wherever_they_are_said_to_be():
    assert groups_of([10, 50, np.nan, 70], [0, 0, np.nan, 0], ["a", "b", "a", "c"]) == [0, 1, 0, 3]


def test_missing_stamps_equal_nothing():
    assert groups_of([10, 50], [0, 0], [None, None]) == [0, 1]


def test_a_radius_of_zero_looks_at_pixels_only():
    assert groups_of([10, 10, 10], [0, 0, 0], ["a", "b", "a"], radius=0) == [0, 1, 0]


def test_connect_joins_over_several_kinds_of_pairs():
    assert connect(5, [np.array([[3, 4]]), np.array([[1, 3]])]).tolist() == [0, 1, 2, 1, 1]
    assert connect(0, []).tolist() == []
    assert equal_pairs(pd.Series(["x", "y", None, "x", None])).tolist() == [[0, 3]]
