"""What is measured ring by ring is what is there: a bar within, arms without, dust on one side."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from galaxy_models.augment import Geometry, transform
from galaxy_models.measured_columns import MEASURED_COLUMNS, measured_columns
from galaxy_models.outline import outlined
from galaxy_models.ring_structure import RING_MEASURES, RINGS, measure_rings

from .test_morphometry import SIDE, galaxy


def named(rgb: Tensor) -> dict[str, float]:
    return dict(zip(RING_MEASURES, measure_rings(outlined(rgb))[0].tolist(), strict=True))


def around(rgb: Tensor, what: str) -> list[float]:
    """Of each ring, the innermost first."""
    measures = named(rgb)
    return [measures[f"ring_{ring}_{what}"] for ring in range(RINGS)]


def barred(length: float = 7.0, angle: float = 0.0) -> Tensor:
    """A face-on disk with a bar of this half-length in pixels."""
    disk = 0.5 * galaxy(radius=9.0)
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    turn = torch.deg2rad(torch.tensor(angle))
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    bar = 0.25 * torch.exp(-0.5 * (across / 1.7) ** 2) * torch.sigmoid((length - along.abs()) / 0.7)
    return disk + bar


def test_a_bar_is_two_fold_within_and_gone_without() -> None:
    bar, disk = around(barred(), "order_2"), around(0.5 * galaxy(radius=9.0), "order_2")
    assert max(bar[1:4]) > 0.15
    assert max(bar[1:4]) > 4 * max(bar[-2:])
    assert max(bar[1:4]) > 4 * max(disk)


def test_a_longer_bar_reaches_rings_further_out() -> None:
    short, long = around(barred(4.0), "order_2"), around(barred(10.0), "order_2")
    assert sum(value > 0.1 for value in long) > sum(value > 0.1 for value in short)


def test_arms_are_two_fold_without() -> None:
    arms = around(galaxy(radius=9.0, arms=0.8), "order_2")
    assert max(arms[3:6]) > 0.15
    assert max(arms[3:6]) > 2 * arms[0]


def test_a_smooth_disk_has_no_structure_however_inclined() -> None:
    for axis_ratio in (1.0, 0.6):
        disk = named(galaxy(axis_ratio, 30.0, radius=9.0))
        waves = [disk[f"ring_{ring}_order_{order}"] for ring in range(1, RINGS - 1) for order in (1, 2, 3, 4)]
        assert max(waves) < 0.12


def test_a_red_middle_shows_in_the_inner_rings() -> None:
    colours = around(galaxy(), "colour")
    assert colours[0] > colours[-1] + 0.05
    assert colours[:5] == sorted(colours[:5], reverse=True)


def test_dust_on_one_side_scatters_the_colour_of_its_rings() -> None:
    clean = galaxy(radius=9.0)
    dusty = clean.clone()
    dusty[:, 2, SIDE // 2 + 3 : SIDE // 2 + 7] *= 0.5
    assert max(around(dusty, "colour_scatter")[1:6]) > 3 * max(around(clean, "colour_scatter")[1:6])


def test_turning_and_mirroring_change_little() -> None:
    original = 0.7 * barred(angle=20.0) + 0.3 * galaxy(0.7, 50.0, arms=0.5)
    geometry = Geometry(torch.tensor([True]), torch.tensor([73.0]), torch.ones(1), torch.zeros(1, 2))
    turned = transform(original, geometry, SIDE)
    difference = (measure_rings(outlined(original)) - measure_rings(outlined(turned))).abs()[0]
    assert difference.max() < 0.1, dict(zip(RING_MEASURES, difference.tolist(), strict=True))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_pictures_without_a_galaxy_give_numbers_all_the_same(value: float) -> None:
    noise = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    flat = torch.full((2, 3, SIDE, SIDE), value)
    for pictures in (flat, noise, flat[..., :32, :32]):
        values = measured_columns(pictures)
        assert values.shape == (2, len(MEASURED_COLUMNS))
        assert values.isfinite().all()
    assert measure_rings(outlined(flat)).abs().max() < 0.01


def test_a_picture_is_measured_alike_in_any_batch() -> None:
    pictures = torch.cat([galaxy(0.4, 10.0), barred(), galaxy(arms=0.6)])
    together = measure_rings(outlined(pictures))
    for place in range(len(pictures)):
        alone = measure_rings(outlined(pictures[place : place + 1]))[0]
        torch.testing.assert_close(alone, together[place], rtol=1e-4, atol=1e-4)
