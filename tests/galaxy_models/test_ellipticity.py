"""Ellipticity turns with the image, and its axis ratio and position angle are those of a galaxy that is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from galaxy_models.augment import Geometry, transform
from galaxy_models.ellipticity import axis_ratio, position_angle, turned

SIZE = 96


def components(ratio: float, angle: float) -> tuple[float, float]:
    """e1 and e2 of an axis ratio and a position angle in degrees."""
    size = (1 - ratio) / (1 + ratio)
    return size * math.cos(2 * math.radians(angle)), size * math.sin(2 * math.radians(angle))


def galaxy(ratio: float, angle: float, south_first: bool) -> torch.Tensor:
    """(1, 1, SIZE, SIZE) of an elongated Gaussian, east on the left, its long axis `angle` from north through east."""
    axis = torch.arange(SIZE, dtype=torch.float32) - (SIZE - 1) / 2
    east, north = -axis[None, :], (axis if south_first else -axis)[:, None]
    turn = math.radians(angle)
    along = north * math.cos(turn) + east * math.sin(turn)
    across = east * math.cos(turn) - north * math.sin(turn)
    return torch.exp(-0.5 * ((along / 9) ** 2 + (across / (9 * ratio)) ** 2))[None, None]


def seen(image: torch.Tensor, south_first: bool) -> tuple[float, float]:
    """e1 and e2 by the second moments of what is on the image."""
    light = (image[0, 0] / image.sum()).double()
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    east, north = -axis[None, :], (axis if south_first else -axis)[:, None]
    nn, ee, ne = (float((light * product).sum()) for product in (north**2, east**2, north * east))
    size = nn + ee + 2 * math.sqrt(nn * ee - ne**2)  # with it |e| = (a - b) / (a + b)
    return (nn - ee) / size, 2 * ne / size


@pytest.mark.parametrize("south_first", [True, False])
@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0, -100.0])
def test_the_label_of_a_turned_stamp_is_what_the_turned_stamp_shows(south_first: bool, turn: float) -> None:
    image = galaxy(0.5, 25.0, south_first)
    e1, e2 = components(0.5, 25.0)
    assert seen(image, south_first) == pytest.approx((e1, e2), abs=0.01)
    geometry = Geometry(torch.tensor([False]), torch.tensor([turn]), torch.ones(1), torch.zeros(1, 2))
    label = turned(torch.tensor([[7.0, e1, e2]]), ("radius", "e1", "e2"), geometry.angle, south_first)
    assert seen(transform(image, geometry, SIZE), south_first) == pytest.approx(label[0, 1:].tolist(), abs=0.01)
    assert float(label[0, 0]) == 7, "a radius does not turn"


def test_axis_ratio_and_position_angle_come_back() -> None:
    pairs = [(0.3, 10.0), (0.9, 135.0), (0.5, 179.0)]
    e1, e2 = np.array([components(*pair) for pair in pairs]).T
    assert axis_ratio(e1, e2) == pytest.approx([ratio for ratio, _ in pairs])
    assert position_angle(e1, e2) == pytest.approx([angle for _, angle in pairs])
    assert math.dist(components(0.5, 179), components(0.5, 1)) < 0.03, "there is no seam between 179 and 1 degrees"
    assert np.isnan(axis_ratio(1.2, 0.0)) and np.isnan(axis_ratio(np.nan, 0.0))


def test_parameters_without_orientation_stay() -> None:
    values = torch.rand(3, 2)
    assert turned(values, ("radius", "e1"), torch.full((3,), 40.0), True) is values
