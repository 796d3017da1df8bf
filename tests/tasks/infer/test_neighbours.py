from __future__ import annotations

import numpy as np
import pytest

from tasks.infer import neighbours
from tasks.infer.neighbours import nearest


def test_neighbours_on_a_circle_are_the_next_angles() -> None:
    angles = np.deg2rad([0, 10, 25, 45, 90])
    # Lengths differ: the cosine must not care.
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [0.1], [2], [3]])
    found, cosines = nearest(points, 2)
    assert found.tolist() == [[1, 2], [0, 2], [1, 3], [2, 1], [3, 2]]
    assert cosines[0, 0] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(50, 6))
    whole = nearest(points, 5, np.array([3, 40, 7]))
    monkeypatch.setattr(neighbours, "BLOCK", 2)
    parts = nearest(points, 5, np.array([3, 40, 7]))
    assert np.array_equal(whole[0], parts[0])
    assert np.allclose(whole[1], parts[1])


def test_a_row_is_never_its_own_neighbour_even_among_copies() -> None:
    found, _ = nearest(np.ones((4, 3)), 10)
    assert found.shape == (4, 3)
    assert all(row not in found[row] for row in range(4))
