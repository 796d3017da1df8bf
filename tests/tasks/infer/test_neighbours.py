"""Nearest neighbours are exact, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from infra.errors import GalaxyError
from tasks.infer import neighbours
from tasks.infer.neighbours import nearest


@pytest.fixture(params=[7, 64, 2048])
def block(request, monkeypatch):
    """Blocks that divide the set unevenly, evenly, and not at all."""
    monkeypatch.setattr(neighbours, "BLOCK", request.param)


def by_hand(embeddings, queries, k, leave_out_self):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    if leave_out_self:
        np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


def test_they_are_those_of_the_whole_table(block):
    embeddings = np.random.default_rng(0).normal(size=(192, 16))
    indices, similarities = nearest(embeddings, 5)
    expected, cosines = by_hand(embeddings, embeddings, 5, leave_out_self=True)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, cosines, atol=1e-5)
    assert (indices != np.arange(192)[:, None]).all()


def test_queries_may_be_others(block):
    generator = np.random.default_rng(1)
    embeddings, queries = generator.normal(size=(130, 8)), generator.normal(size=(70, 8))
    indices, similarities = nearest(embeddings, 130, queries)
    np.testing.assert_array_equal(indices, by_hand(embeddings, queries, 130, leave_out_self=False)[0])
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_a_galaxy_finds_itself_when_it_is_the_query():
    embeddings = np.random.default_rng(2).normal(size=(50, 8))
    indices, similarities = nearest(embeddings, 1, embeddings[:10] * 3)
    assert indices[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(similarities, 1, atol=1e-5)


def test_equal_ones_come_in_order_of_rows(block):
    """Exact copies, over the borders of blocks, with room for some of them only."""
    embeddings = np.tile(np.eye(4), (20, 1))
    indices, similarities = nearest(embeddings, 3)
    for row, found in enumerate(indices):
        copies = [i for i in range(row % 4, 80, 4) if i != row]
        assert found.tolist() == copies[:3]
    assert (similarities == 1).all()


def test_length_does_not_matter_and_zero_is_like_nothing():
    embeddings = np.array([[1.0, 0], [100, 1], [0, 5], [0, 0]])
    indices, similarities = nearest(embeddings, 3)
    assert indices[0].tolist() == [1, 2, 3]
    assert similarities[3].tolist() == [0, 0, 0]


def test_memory_is_a_few_blocks(monkeypatch):
    """Never the table of all pairs, which has 64 MB here."""
    import tracemalloc

    monkeypatch.setattr(neighbours, "BLOCK", 256)
    embeddings = np.random.default_rng(3).normal(size=(4000, 8)).astype(np.float32)
    tracemalloc.start()
    nearest(embeddings, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


@pytest.mark.parametrize(
    ("embeddings", "k", "queries", "message"),
    [
        (np.ones((5, 2)), 5, None, "1 to 4 can be had"),
        (np.ones((5, 2)), 0, None, "1 to 4 can be had"),
        (np.ones((5, 2)), 1, np.ones((3, 4)), "one model"),
        (np.array([[1.0], [np.nan], [1.0]]), 1, None, "embedding 1 has numbers that are not finite"),
    ],
)
def test_what_cannot_be_answered_is_refused(embeddings, k, queries, message):
    with pytest.raises(GalaxyError, match=message):
        nearest(embeddings, k, queries)
