"""Symbols show what their classes mean, and every answer has one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from galaxy_models.symbols import (
    ALIASES,
    GALAXY_ZOO_TREE,
    UnknownClassError,
    canonical_class,
    canonical_classes,
    draw_symbol,
    known_symbols,
)

SIZE = 96


def _axis_ratio(ink: np.ndarray) -> float:
    """Minor over major axis from second moments."""
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]] - (len(ink) - 1) / 2
    tensor = np.array([[(ink * x * x).sum(), (ink * x * y).sum()], [(ink * x * y).sum(), (ink * y * y).sum()]])
    low, high = np.linalg.eigvalsh(tensor)
    return float(np.sqrt(low / high))


def _crossings(ink: np.ndarray, x: np.ndarray, y: np.ndarray, closed: bool) -> int:
    """How often a path, given in -1..1, enters the ink of a symbol of 192 px."""
    column, row = ((np.array([x, -y]) + 1) / 2 * 192).astype(int)
    along = ink[row, column]
    if closed:  # begin where there is paper
        along = np.roll(along, -int(np.argmin(along)))
    entered, inside = 0, False
    for value in along:  # the soft edge of a stroke is neither: a path that grazes it does not enter twice
        if not inside and value > 0.8:
            entered, inside = entered + 1, True
        elif value < 0.2:
            inside = False
    return entered


def test_every_answer_of_the_galaxy_zoo_tree_has_a_symbol() -> None:
    answers = [name for question in GALAXY_ZOO_TREE.values() for name in question.values()]
    assert len(GALAXY_ZOO_TREE) == 10
    assert len(answers) == 34
    assert set(answers) <= set(known_symbols())


def test_other_spellings_lead_to_symbols_and_hide_none() -> None:
    assert set(ALIASES.values()) <= set(known_symbols())
    assert not set(ALIASES) & set(known_symbols())


def test_no_two_symbols_look_alike() -> None:
    drawn = {name: draw_symbol(name, 48)[0] for name in known_symbols()}
    distances = {pair: np.abs(drawn[pair[0]] - drawn[pair[1]]).sum() for pair in combinations(drawn, 2)}
    closest = min(distances, key=lambda pair: distances[pair])
    assert distances[closest] > 10, closest  # pixels of full ink, of 48 x 48


def test_symbols_lie_within_the_picture() -> None:
    for name in known_symbols():
        ink = draw_symbol(name, SIZE)
        assert ink.shape == (1, SIZE, SIZE) and ink.dtype == np.float32
        assert ink.min() >= 0 and ink.max() <= 1
        assert ink[0, [0, -1]].max() == 0 and ink[0, :, [0, -1]].max() == 0, name


def test_the_smooth_shapes_are_ordered_by_roundness() -> None:
    ratios = [_axis_ratio(draw_symbol(name, SIZE)[0]) for name in ("round_smooth", "in_between_smooth", "cigar_smooth")]
    assert ratios[0] > 0.98
    assert ratios[0] > ratios[1] + 0.2 > ratios[2] + 0.4


def test_bulges_are_ordered_by_size() -> None:
    names = ("no_bulge", "small_bulge", "moderate_bulge", "large_bulge", "dominant_bulge")
    middle = slice(SIZE // 6, -SIZE // 6)
    ink = [draw_symbol(name, SIZE)[0, middle, middle].sum() for name in names]
    assert ink == sorted(ink)
    assert draw_symbol("no_bulge", SIZE)[0, SIZE // 2, SIZE // 2] == 0


@pytest.mark.parametrize(("name", "count"), [("one_arm", 1), ("two_arms", 2), ("three_arms", 3), ("four_arms", 4)])
def test_a_circle_crosses_each_arm_once(name: str, count: int) -> None:
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    ink = draw_symbol(name, 192)[0]
    assert _crossings(ink, 0.6 * np.cos(angle), 0.6 * np.sin(angle), closed=True) == count


def test_tighter_arms_pass_a_ray_more_often() -> None:
    radius = np.linspace(0.25, 0.95, 600)
    rays = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    drawn = [draw_symbol(name, 192)[0] for name in ("tight_spiral", "two_arms", "loose_spiral")]
    passes = [
        sum(_crossings(ink, radius * np.cos(ray), radius * np.sin(ray), closed=False) for ray in rays) for ink in drawn
    ]
    assert passes[0] > passes[1] > passes[2]


def test_jitter_depends_on_the_seed_alone() -> None:
    first, again, other = (draw_symbol("spiral", 48, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_jitter_leaves_the_shape() -> None:
    generator = np.random.default_rng(0)
    plain = _axis_ratio(draw_symbol("cigar_smooth", SIZE)[0])
    for _ in range(5):
        drawn = _axis_ratio(draw_symbol("cigar_smooth", SIZE, generator)[0])
        assert drawn == pytest.approx(plain, abs=0.06)  # a thick pen makes it rounder


def test_an_unknown_class_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownClassError, match=r"'green_pea'.*round_smooth.*irregular"):
        draw_symbol("green_pea", 32)


def test_a_first_word_that_tells_tables_apart_is_dropped() -> None:
    assert canonical_classes(["guide_ring", "guide_completely_round", "guide_edge_on_no_bulge"]) == [
        "ring",
        "round_smooth",
        "edge_on_no_bulge",
    ]


def test_a_first_word_that_is_part_of_known_names_stays() -> None:
    assert canonical_classes(["edge_on_disk", "edge_on_no_bulge"]) == ["edge_on_disk", "edge_on_no_bulge"]


def test_a_word_that_changes_the_meaning_is_not_dropped() -> None:
    with pytest.raises(UnknownClassError, match="'unusual_ring'"):
        canonical_classes(["unusual_ring", "spiral"])
    with pytest.raises(UnknownClassError, match="'unusual_ring'"):
        canonical_class("unusual_ring")
