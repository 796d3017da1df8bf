"""A stamp shows the centre of an image, in its shape, with its flux."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tasks.ingest.resample import flux_stamp, kept_side, picture_stamp


def axes(image: np.ndarray) -> tuple[float, float, float, float]:
    """Centre and widths of the light of a (H, W) image, in shares of its side."""
    light = image.astype(np.float64)
    y, x = (np.mgrid[: image.shape[0], : image.shape[1]] + 0.5) / image.shape[0]
    total = light.sum()
    centre_y, centre_x = (light * y).sum() / total, (light * x).sum() / total
    return (
        centre_y,
        centre_x,
        np.sqrt((light * (y - centre_y) ** 2).sum() / total),
        np.sqrt((light * (x - centre_x) ** 2).sum() / total),
    )


def blob(height: int, width: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.exp(-((y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize(("height", "width"), [(100, 300), (301, 99), (200, 200), (61, 60)])
@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_a_circle_stays_a_circle_in_the_centre(height: int, width: int, keep: float) -> None:
    shorter = min(height, width)
    sigma = 0.06 * shorter
    picture = Image.fromarray((250 * blob(height, width, sigma)).astype(np.uint8)).convert("RGB")
    stamp = picture_stamp(picture, keep, 64)
    assert stamp.shape == (3, 64, 64)
    centre_y, centre_x, wide_y, wide_x = axes(stamp[0])
    assert wide_y == pytest.approx(wide_x, rel=0.02)
    assert wide_y == pytest.approx(sigma / kept_side(width, height, keep), rel=0.06)
    assert (centre_y, centre_x) == pytest.approx((0.5, 0.5), abs=0.012)  # half a pixel where sides differ in parity


def test_shrinking_does_not_alias() -> None:
    """Stripes finer than the stamp can hold become grey, not coarse stripes."""
    stripes = np.where(np.arange(400) % 2, 255, 0).astype(np.uint8)
    picture = Image.fromarray(np.tile(stripes, (400, 1))).convert("RGB")
    inner = picture_stamp(picture, 1.0, 90)[:, 5:-5, 5:-5]
    assert inner.std() < 3
    assert inner.mean() == pytest.approx(127.5, abs=3)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    stamp = picture_stamp(Image.fromarray(pixels), 0.8, 32)
    assert np.array_equal(stamp, pixels[4:36, 9:41].transpose(2, 0, 1))


@pytest.mark.parametrize("size", [40, 64, 150])
def test_flux_is_conserved_by_resampling(size: int) -> None:
    planes = np.stack([blob(100, 120, 8), 3 * blob(100, 120, 6)]).astype(np.float32)
    stamp = flux_stamp(planes, 1.0, size)
    assert stamp.sum(axis=(1, 2)) == pytest.approx(planes.sum(axis=(1, 2)), rel=2e-3)
    assert stamp.min() >= 0
