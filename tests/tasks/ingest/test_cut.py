"""What a cut needs of a compressed image: all that its squares show, and not much more."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.ingest.cut import Cut, Place

SHAPE = (3600, 3600)


def covered(pieces: list[Place]) -> np.ndarray:
    """Pixels that are read, and how often."""
    times = np.zeros(SHAPE, int)
    for piece in pieces:
        times[piece] += 1
    return times


@pytest.mark.parametrize("tile", [(100, 100), (1, 3600), (512, 700)])
@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_every_pixel_of_every_square_is_read_once(tile: tuple[int, int], count: int) -> None:
    x, y = np.random.default_rng(count).uniform(-200, 3800, (2, count))  # some lie on the edge, some beyond
    cut = Cut(x, y, 152, SHAPE)
    pieces = cut.pieces(tile)
    if pieces is None:
        return
    times = covered(pieces)
    assert times.max(initial=0) <= 1
    for square in cut.squares:
        assert (times[square.source] == 1).all()


def test_few_objects_cost_few_tiles_and_many_the_whole_image() -> None:
    generator = np.random.default_rng(0)
    few = Cut(*generator.uniform(200, 3400, (2, 3)), 152, SHAPE).pieces((100, 100))
    assert few is not None
    assert (covered(few) > 0).mean() < 0.03  # three of 1296 stamps' area, in whole tiles
    assert Cut(*generator.uniform(0, 3600, (2, 400)), 152, SHAPE).pieces((100, 100)) is None


def test_half_an_image_is_read_as_one_piece() -> None:
    generator = np.random.default_rng(0)
    [piece] = Cut(generator.uniform(0, 3600, 200), generator.uniform(0, 1500, 200), 152, SHAPE).pieces((100, 100)) or []
    assert piece == (slice(0, 1600), slice(0, 3600))


def test_squares_beyond_the_image_show_nothing_of_it() -> None:
    cut = Cut(np.array([-80.0, 1800.0]), np.array([1800.0, 3599.4]), 152, SHAPE)
    beyond, edge = cut.squares
    assert beyond.overlap == 0 and np.zeros(SHAPE)[beyond.source].size == 0
    assert 0.49 < edge.overlap < 0.51 and edge.source == (slice(3524, 3600), slice(1725, 1877))
