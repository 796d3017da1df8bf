"""The viewer's stretch: faint fluxes rise in proportion to the band's scale, and colours come out blue to red."""

from __future__ import annotations

import math

import pytest
import torch

from galaxy_models.photometry import EXTINCTION, magnitude, transmission, viewer_rgb


@pytest.mark.parametrize(
    ("bands", "scales"), [(("g", "r", "z"), (6.0, 3.4, 2.2)), (("g", "r", "i"), (9.0, 5.1, 4.5))], ids=["grz", "gri"]
)
def test_stretch_is_the_viewers(bands: tuple[str, str, str], scales: tuple[float, float, float]) -> None:
    flux = (0.01, 0.02, 0.03)
    scaled = [scale * value + 0.03 for scale, value in zip(scales, flux, strict=True)]
    intensity = sum(scaled) / 3
    factor = math.asinh(20 * intensity) / (math.sqrt(20) * intensity)
    expected = [value * factor for value in reversed(scaled)]
    shown = viewer_rgb(torch.tensor(flux).view(1, 3, 1, 1), bands).flatten()
    torch.testing.assert_close(shown, torch.tensor(expected))


def test_bands_without_a_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="u"):
        viewer_rgb(torch.zeros(1, 3, 2, 2), ("u", "g", "r"))


def test_magnitude_of_a_nanomaggy_is_the_zero_point() -> None:
    found = magnitude(torch.tensor([1.0, 100.0, -1.0]))
    assert found[:2].tolist() == [22.5, 17.5]
    assert torch.isnan(found[2])


def test_dust_dims_by_k_magnitudes_for_each_magnitude_of_reddening() -> None:
    """Blue more than red; in numbers those that the Legacy Surveys tell, 10^(-1.2856 E(B-V)) in g."""
    passed = transmission(torch.tensor([0.0, 0.1, -0.1]), ("g", "r", "z"))
    assert passed[0].tolist() == [1, 1, 1]
    expected = [10 ** (-k * 0.1) for k in (1.2856, 0.8660, 0.4844)]
    assert passed[1].tolist() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(passed[2], 1 / passed[1])
    assert EXTINCTION["g"] > EXTINCTION["r"] > EXTINCTION["i"] > EXTINCTION["z"]
    with pytest.raises(ValueError, match="'u'"):
        transmission(torch.zeros(1), ("u",))
