"""What is measured ring by ring is what is there: a bar within, arms without, dust on one side."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from galaxy_models.augment import Geometry, transform
from galaxy_models.outline import outlined
from galaxy_models.ring_structure import ORDERS, RING_MEASURES, RINGS, measure_rings

from .test_morphometry import SIDE, galaxy


def named(rgb: Tensor) -> dict[str, float]:
    return dict(zip(RING_MEASURES, measure_rings(outlined(rgb))[0].tolist(), strict=True))


def around(rgb: Tensor, what: str) -> list[float]:
    """Of each ring, the innermost first."""
    measures = named(rgb)
    return [measures[f"ring_{ring}_{what}"] for ring in range(RINGS)]


def places(angle: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pixels from the middle, along a direction and across it."""
    pixels = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    turn = torch.deg2rad(torch.tensor(angle))
    return x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()


def barred(length: float = 7.0, angle: float = 0.0) -> Tensor:
    """A face-on disk with a bar of this half-length in pixels."""
    along, across = places(angle)
    bar = 0.25 * torch.exp(-0.5 * (across / 1.7) ** 2) * torch.sigmoid((length - along.abs()) / 0.7)
    return 0.5 * galaxy(radius=9.0) + bar


def without_colour(rgb: Tensor) -> Tensor:
    return rgb[:, :1].expand(-1, 3, -1, -1)


def test_an_amplitude_is_that_of_the_wave_over_the_mean() -> None:
    x, y = places()
    radius, angle = (x**2 + y**2).sqrt(), torch.atan2(y, x)
    light = torch.where(radius < 22, 0.5 * (1 + 0.4 * torch.cos(3 * angle)), 0)
    waves = around(light.expand(1, 3, SIDE, SIDE), "order_3")
    assert waves[2:5] == pytest.approx([0.4] * 3, abs=0.05)


def test_a_bar_is_two_fold_within_and_gone_without() -> None:
    bar, disk = around(barred(), "order_2"), around(0.5 * galaxy(radius=9.0), "order_2")
    assert max(bar[1:4]) > 0.3
    assert max(bar[1:4]) > 4 * max(bar[-2:])
    assert max(bar[1:4]) > 4 * max(disk)


def test_a_longer_bar_reaches_rings_further_out() -> None:
    short, long = around(barred(4.0), "order_2"), around(barred(10.0), "order_2")
    assert sum(value > 0.2 for value in long) > sum(value > 0.2 for value in short)


def test_arms_are_two_fold_without() -> None:
    arms = around(galaxy(radius=9.0, arms=0.8), "order_2")
    assert max(arms[3:6]) > 0.3
    assert max(arms[3:6]) > 2 * arms[0]


@pytest.mark.parametrize("axis_ratio", [1.0, 0.6, 0.4])
def test_a_smooth_disk_has_no_structure_however_inclined(axis_ratio: float) -> None:
    disk = named(galaxy(axis_ratio, 30.0, radius=8.0))
    assert max(disk[f"ring_{ring}_order_{order}"] for ring in range(2, RINGS) for order in ORDERS) < 0.08


def test_colour_goes_the_way_that_the_galaxy_s_does() -> None:
    red_within = around(galaxy(radius=9.0), "colour")
    blue_within = around(galaxy(radius=9.0).flip(1), "colour")
    assert red_within[1] > red_within[5] + 0.1
    assert blue_within[1] < blue_within[5] - 0.1
    assert around(without_colour(galaxy(radius=9.0)), "colour") == pytest.approx([0] * RINGS, abs=1e-3)


def test_dust_on_one_side_scatters_the_colour_of_its_rings() -> None:
    clean = without_colour(galaxy(radius=9.0))
    dusty = clean.clone()
    dusty[:, 2, SIDE // 2 + 3 : SIDE // 2 + 7] *= 0.5
    assert max(around(dusty, "colour_scatter")[1:6]) > 0.05
    assert max(around(clean, "colour_scatter")) < 1e-3


def test_rings_that_leave_the_picture_tell_nothing() -> None:
    disk = named(galaxy(0.3, radius=20.0))
    assert all(disk[f"ring_{RINGS - 1}_order_{order}"] == 0 for order in ORDERS)
    assert disk["ring_0_colour"] > 0.05


def test_turning_and_mirroring_change_little() -> None:
    original = 0.7 * barred(angle=20.0) + 0.3 * galaxy(0.7, 50.0, arms=0.5)
    geometry = Geometry(torch.tensor([True]), torch.tensor([73.0]), torch.ones(1), torch.zeros(1, 2))
    before, after = named(original), named(transform(original, geometry, SIDE))
    assert max(before.values()) > 0.3
    for name, value in before.items():
        assert after[name] == pytest.approx(value, abs=0.02 if "colour" in name else 0.08), name


def test_small_galaxies_and_pictures_without_one_give_numbers_all_the_same() -> None:
    noise = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    flat = torch.full((2, 3, SIDE, SIDE), 0.5)
    small = galaxy(radius=0.6)[..., 16:48, 16:48]
    for pictures in (flat, noise, small, flat[..., :32, :32]):
        values = measure_rings(outlined(pictures))
        assert values.shape == (len(pictures), len(RING_MEASURES))
        assert values.isfinite().all()
    assert measure_rings(outlined(flat)).abs().max() < 0.01


def test_a_picture_is_measured_alike_in_any_batch() -> None:
    pictures = torch.cat([galaxy(0.4, 10.0), barred(), galaxy(arms=0.6)])
    together = measure_rings(outlined(pictures))
    for place in range(len(pictures)):
        alone = measure_rings(outlined(pictures[place : place + 1]))[0]
        torch.testing.assert_close(alone, together[place], rtol=1e-4, atol=1e-4)
