"""Augmentation does what its names say, measured on sources of known shape."""

from __future__ import annotations

import math

import pytest
import torch

from galaxy_models.augment import (
    Augmentation,
    Geometry,
    add_noise,
    augmented_input,
    jitter_colours,
    random_geometry,
    transform,
)
from galaxy_models.inputs import InputSpec

SIZE = 96


def source(angle: float, x: float = 0.0, y: float = 0.0, long: float = 9.0, short: float = 3.0) -> torch.Tensor:
    """An elongated Gaussian of total 1; `angle` is that of its long axis, degrees counter-clockwise from the right."""
    axis = torch.arange(SIZE, dtype=torch.float32) - (SIZE - 1) / 2
    right, up = (axis - x)[None, :], -(axis - y)[:, None]
    turn = math.radians(angle)
    along, across = right * math.cos(turn) + up * math.sin(turn), up * math.cos(turn) - right * math.sin(turn)
    image = torch.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))
    return (image / image.sum())[None, None]


def moments(image: torch.Tensor) -> tuple[float, float, float]:
    """Centre (right, down) in pixels and angle of the long axis in degrees, 0..180."""
    weights = image[0, 0] / image[0, 0].sum()
    axis = torch.arange(weights.shape[0], dtype=torch.float32) - (weights.shape[0] - 1) / 2
    x, y = float((weights * axis[None, :]).sum()), float((weights * axis[:, None]).sum())
    right, up = axis[None, :] - x, -(axis[:, None] - y)
    xx, yy, xy = ((weights * product).sum() for product in (right**2, up**2, right * up))
    return x, y, math.degrees(0.5 * math.atan2(2 * float(xy), float(xx - yy))) % 180


def geometry(angle: float = 0, mirror: bool = False, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> Geometry:
    return Geometry(
        torch.tensor([mirror]),
        torch.tensor([float(angle)]),
        torch.tensor([float(scale)]),
        torch.tensor([shift]).float(),
    )


@pytest.mark.parametrize("angle", [0, 30, 90, 137.5, -20])
def test_turns_counter_clockwise_by_the_angle(angle: float) -> None:
    turned = transform(source(25), geometry(angle), SIZE)
    assert moments(turned)[2] == pytest.approx((25 + angle) % 180, abs=0.3)


def test_mirrors_left_to_right_and_then_turns() -> None:
    seen = transform(source(25, x=10, y=4), geometry(mirror=True), SIZE)
    assert moments(seen) == pytest.approx((-10, 4, 155), abs=0.2)
    assert moments(transform(source(25), geometry(40, mirror=True), SIZE))[2] == pytest.approx(
        (155 + 40) % 180, abs=0.3
    )


def test_shifts_right_and_down_in_pixels_of_the_result() -> None:
    x, y, _ = moments(transform(source(25), geometry(60, scale=1.1, shift=(5.5, -3)), SIZE))
    assert (x, y) == pytest.approx((5.5, -3), abs=0.05)


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.25])
def test_resizing_keeps_surface_brightness(scale: float) -> None:
    image = source(25)
    seen = transform(image, geometry(33, scale=scale), SIZE)
    assert float(seen.sum()) == pytest.approx(scale**2, rel=5e-3)
    assert float(seen.max()) == pytest.approx(float(image.max()), rel=0.03)


def test_does_nothing_to_the_pixels_when_nothing_is_asked() -> None:
    image = torch.rand(1, 3, SIZE, SIZE)
    torch.testing.assert_close(transform(image, geometry(), SIZE), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(transform(image, geometry(), 64), image[..., 16:80, 16:80], atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [0, 17, 45, 80])
def test_no_dark_corners_enter_a_turned_crop(angle: float) -> None:
    sky = torch.full((1, 3, SIZE, SIZE), 0.2)
    seen = transform(sky, geometry(angle, scale=0.9, shift=(4, 4)), SIZE)
    assert seen.min() == pytest.approx(0.2, abs=1e-5)


def test_a_turned_crop_takes_its_corners_from_the_stamp_around_it() -> None:
    """A mark outside the crop, inside the stamp, comes into view by turning."""
    stamp = torch.zeros(1, 1, SIZE, SIZE)
    stamp[0, 0, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE - 12 : SIZE - 8] = 1  # 38 px to the right of the centre
    assert transform(stamp, geometry(), 64).max() == 0
    seen = transform(stamp, geometry(45), 64)[0, 0]
    assert seen[:8, -8:].max() > 0.5, "it lies in the upper right corner now"
    assert seen[8:, :-8].max() == 0


def test_draws_cover_their_ranges_evenly() -> None:
    drawn = random_geometry(4000, Augmentation(rotation=180, shift=4, resize=0.1), torch.Generator().manual_seed(0))
    error = 5 / 4000**0.5
    assert float(drawn.mirror.float().mean()) == pytest.approx(0.5, abs=0.5 * error)
    quarters = torch.histc(drawn.angle, 4, -180, 180) / 4000
    assert (quarters - 0.25).abs().max() < 0.5 * error
    assert drawn.scale.min() >= 0.9 and drawn.scale.max() <= 1.1 and drawn.scale.std() > 0.05
    assert drawn.shift.abs().max() <= 4 and drawn.shift.mean(dim=0).abs().max() < 4 * error


def test_colours_change_by_their_shares_and_stay_in_range() -> None:
    rgb = torch.full((2000, 3, 2, 2), 0.5)
    changed = jitter_colours(rgb, Augmentation(brightness=0.1, colour=0.05), torch.Generator().manual_seed(0))
    ratio = changed[:, :, 0, 0] / 0.5
    assert ratio.min() > 0.9 * 0.95 - 1e-6 and ratio.max() < 1.1 * 1.05 + 1e-6
    tint = ratio[:, 0] / ratio[:, 2]
    assert tint.std() == pytest.approx((2 / 3) ** 0.5 * 0.05, rel=0.1), "channels vary apart"
    bright = jitter_colours(torch.ones(50, 3, 2, 2), Augmentation(), torch.Generator().manual_seed(0))
    assert bright.max() <= 1


def test_noise_has_the_standard_deviation_asked_for_each_image_and_band() -> None:
    sigma = torch.tensor([[0.1, 0.2], [1.0, 2.0]])
    noise = add_noise(torch.zeros(2, 2, 200, 200), sigma, torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.std(dim=(2, 3)), sigma, rtol=0.02, atol=0)
    assert noise.mean(dim=(2, 3)).abs().max() < 5 * 2.0 / 200


@pytest.mark.parametrize("units", ["rgb", "nanomaggy"])
def test_an_augmented_input_is_what_the_network_would_see(units: str) -> None:
    """With everything turned off it equals the plain input; with the same seed it is the same again."""
    inputs = InputSpec(("g", "r", "z"), SIZE, 64, 2, (0.2, 0.3), True)
    generator = torch.Generator().manual_seed(3)
    if units == "rgb":
        stamps = torch.randint(0, 256, (2, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    else:
        stamps = (torch.rand(2, 3, SIZE, SIZE, generator=generator) * 0.05).half()
    nothing = Augmentation(0, 0, 0, 0, 0, 0, 0)
    plain = augmented_input(stamps, units, inputs, nothing, generator)
    torch.testing.assert_close(plain, inputs.to_network(stamps, units), atol=1e-4, rtol=0)
    first, second = (
        augmented_input(stamps, units, inputs, Augmentation(), torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first, second) and not torch.equal(first, plain)
    assert first.shape == (2, 3, 32, 32) and first.min() >= 0 and first.max() <= 1
