"""Classical measures are what their names say, on galaxies whose shape is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from galaxy_models.augment import Geometry, transform
from galaxy_models.morphometry import MEASURES, measure
from galaxy_models.outline import outlined

SIDE = 64


def galaxy(
    axis_ratio: float = 1.0, angle: float = 0.0, radius: float = 6.0, sersic: float = 1.0, arms: float = 0.0
) -> Tensor:
    """(1, 3, 64, 64): a Sersic profile with half-light radius in pixels, two spiral arms if wished, redder within."""
    places = torch.arange(SIDE) - (SIDE - 1) / 2
    y, x = torch.meshgrid(places, places, indexing="ij")
    turn = torch.deg2rad(torch.tensor(angle))
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    distance = (along**2 * axis_ratio + across**2 / axis_ratio).sqrt().clamp_min(0.3)
    light = torch.exp(-(2 * sersic - 1 / 3) * ((distance / radius) ** (1 / sersic) - 1))
    if arms:
        phase = 2 * torch.atan2(across, along) + 4 * (distance / radius).log()
        light = light * (1 + arms * phase.cos() * (distance > 3))
    light = 0.5 * light / light.max()
    blue = torch.exp(-0.5 * (distance / radius) ** 2)
    return torch.stack([light, light * (1 - 0.2 * blue), light * (1 - 0.5 * blue)])[None]


def named(rgb: Tensor) -> dict[str, float]:
    return dict(zip(MEASURES, measure(outlined(rgb))[0].tolist(), strict=True))


@pytest.mark.parametrize("axis_ratio", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("angle", [0.0, 37.0, 90.0])
def test_axis_ratio_is_that_of_the_galaxy(axis_ratio: float, angle: float) -> None:
    assert named(galaxy(axis_ratio, angle))["axis_ratio"] == pytest.approx(axis_ratio, abs=0.06)


def test_a_larger_galaxy_is_larger_by_as_much() -> None:
    pictures = galaxy(radius=3.5), galaxy(radius=7.0)
    small, large = map(named, pictures)
    gain = (pictures[1].sum() / pictures[0].sum()).log().item()
    assert large["log_r50"] - small["log_r50"] == pytest.approx(0.693, abs=0.12)
    assert large["log_flux"] - small["log_flux"] == pytest.approx(gain, abs=0.1)


def test_a_steep_profile_is_concentrated_and_unequal() -> None:
    disk, bulge = named(galaxy(sersic=1.0)), named(galaxy(sersic=4.0))
    assert bulge["concentration"] > disk["concentration"] + 0.3
    assert bulge["gini"] > disk["gini"]
    assert bulge["m20"] < disk["m20"]


def test_half_a_galaxy_is_asymmetric_and_a_whole_one_is_not() -> None:
    whole = galaxy()
    lopsided = whole.clone()
    lopsided[..., : SIDE // 2] *= 0.4
    assert named(whole)["asymmetry"] < 0.03
    assert named(lopsided)["asymmetry"] > 0.1


def test_one_knot_in_the_disk_makes_it_lopsided() -> None:
    whole = galaxy()
    knotted = whole.clone()
    knotted[..., 30:34, 40:44] += 0.3
    assert named(knotted)["lopsidedness"] > named(whole)["lopsidedness"] + 0.05


def test_spiral_arms_are_seen_and_their_sense_does_not_matter() -> None:
    smooth, armed = named(galaxy()), named(galaxy(arms=0.8))
    mirrored = named(galaxy(arms=0.8).flip(-1))
    assert armed["spiral"] > smooth["spiral"] + 0.1
    assert armed["spiral"] > 2 * armed["counter_spiral"]
    assert mirrored["spiral"] == pytest.approx(armed["spiral"], abs=0.02)
    assert armed["residual"] > smooth["residual"] + 0.1


def test_a_red_middle_is_redder_than_the_outskirts() -> None:
    colours = named(galaxy())
    assert colours["inner_colour"] > colours["outer_colour"] + 0.03


def test_turning_and_mirroring_change_little() -> None:
    original = galaxy(0.5, 20.0, arms=0.5)
    turned = transform(
        original,
        Geometry(torch.tensor([True]), torch.tensor([73.0]), torch.ones(1), torch.zeros(1, 2)),
        SIDE,
    )
    difference = (measure(outlined(original)) - measure(outlined(turned))).abs()[0]
    assert difference.max() < 0.2, dict(zip(MEASURES, difference.tolist(), strict=True))


def test_a_neighbour_at_the_border_is_not_the_galaxy() -> None:
    alone = galaxy(radius=4.0)
    beside = alone.clone()
    beside[..., 50:56, 50:56] = 0.9
    assert named(beside)["log_flux"] == pytest.approx(named(alone)["log_flux"], abs=0.02)
    assert named(beside)["axis_ratio"] == pytest.approx(named(alone)["axis_ratio"], abs=0.02)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_pictures_without_a_galaxy_give_numbers_all_the_same(value: float) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((2, 3, SIDE, SIDE), value)
    noise = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    for pictures in (flat, noise, flat[..., :32, :32]):
        values = measure(outlined(pictures))
        assert values.shape == (2, len(MEASURES))
        assert values.isfinite().all()


def test_a_picture_is_measured_alike_in_any_batch() -> None:
    pictures = torch.cat([galaxy(0.4, 10.0), galaxy(0.8, 50.0, radius=9.0), galaxy(arms=0.6)])
    together = measure(outlined(pictures))
    for place in range(len(pictures)):
        torch.testing.assert_close(
            measure(outlined(pictures[place : place + 1]))[0], together[place], rtol=1e-4, atol=1e-4
        )
