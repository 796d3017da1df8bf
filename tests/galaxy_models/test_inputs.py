"""What a network takes: the sides of its images, and what the errors say about others."""

from __future__ import annotations

import pytest

from galaxy_models.inputs import InputError, InputSpec, is_legal_size, near_sizes


def spec(crop: int, binning: int) -> InputSpec:
    return InputSpec(("g", "r", "z"), 600, crop, binning, (0.2, 0.3), True)


def test_multiples_of_8_from_32_to_512_are_legal_and_nothing_else() -> None:
    assert [side for side in range(1000) if is_legal_size(side)] == list(range(32, 513, 8))


@pytest.mark.parametrize(
    "side, near", [(1, [32]), (31, [32]), (33, [32, 40]), (150, [144, 152]), (511, [504, 512]), (600, [512])]
)
def test_the_nearest_legal_sides_are_named(side: int, near: list[int]) -> None:
    assert near_sizes(side) == near and all(map(is_legal_size, near))


@pytest.mark.parametrize("crop, binning", [(128, 1), (152, 1), (160, 2), (224, 1), (256, 4), (512, 1), (120, 3)])
def test_crop_and_binning_that_leave_a_legal_side_are_taken(crop: int, binning: int) -> None:
    assert spec(crop, binning).network_size == crop // binning


@pytest.mark.parametrize(
    "crop, binning, words",
    [
        (150, 1, r"crop 150 px with binning 1 .* 150 px; .* 144 and 152, so take a crop of 144 or 152"),
        (152, 2, r"76 px; .* 72 and 80, so take a crop of 144 or 160"),
        (128, 3, r"42.6667 px; .*a crop of 120 or 144"),
        (64, 4, r"16 px; .*nearest to 16 is 32, so take a crop of 128"),
        (600, 1, r"nearest to 600 is 512"),
    ],
)
def test_others_are_refused_with_crops_that_would_do(crop: int, binning: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        spec(crop, binning)
