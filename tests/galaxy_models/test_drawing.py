"""Drawings carry the right amount of ink in the right place."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models import drawing as d

SIZE = 64
PIXEL = 2 / SIZE


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.011, -0.017)])
def test_an_ellipse_has_the_ink_of_its_area_wherever_it_lies_on_the_pixels(shift: tuple[float, float]) -> None:
    ink = d.render([d.Area(shift, (0.6, 0.35), angle=0.4)], SIZE)
    assert ink.sum() * PIXEL**2 == pytest.approx(np.pi * 0.6 * 0.35, rel=0.02)


def test_a_stroke_has_the_ink_of_its_length_and_width() -> None:
    ink = d.render([d.Line(np.array([[-0.5, 0.1], [0.5, 0.1]]), width=0.2)], SIZE)
    round_ends = np.pi * 0.1**2
    assert ink.sum() * PIXEL**2 == pytest.approx(1.0 * 0.2 + round_ends, rel=0.02)


def test_a_lane_takes_ink_away_along_the_major_axis_only() -> None:
    body = d.blob(0.6)
    with_lane = d.render(body + d.lane(0.9, 0.15), SIZE)
    assert with_lane[SIZE // 2].max() == 0
    assert np.array_equal(with_lane[: SIZE // 3], d.render(body, SIZE)[: SIZE // 3])


def test_row_0_is_the_top() -> None:
    ink = d.render(d.blob(0.2, (0.0, 0.6)), SIZE)
    assert ink[: SIZE // 2].sum() > 0
    assert ink[SIZE // 2 :].sum() == 0


def test_a_quarter_turn_of_the_drawing_is_a_quarter_turn_of_the_picture() -> None:
    drawing = [*d.arm(0.3, 0.3), d.Area((0.4, 0.1), (0.3, 0.1), angle=0.5)]
    turned = d.render(d.placed(drawing, angle=np.pi / 2), SIZE)
    assert np.allclose(turned, np.rot90(d.render(drawing, SIZE)), atol=1e-4)


def test_a_mirrored_drawing_is_the_mirrored_picture() -> None:
    drawing = [*d.arm(0.3, 0.3), d.Area((0.4, 0.1), (0.3, 0.1), angle=0.5)]
    assert np.allclose(d.render(d.placed(drawing, mirror=True), SIZE), d.render(drawing, SIZE)[:, ::-1], atol=1e-4)


def test_an_arm_keeps_its_pitch_angle() -> None:
    pitch = 0.35
    x, y = d.arm(0.0, pitch)[0].points.T
    radius, angle = np.hypot(x, y), np.unwrap(np.arctan2(y, x))
    assert np.allclose(np.diff(np.log(radius)) / np.diff(angle), np.tan(pitch))


def test_half_of_a_dashed_stroke_is_left() -> None:
    whole = d.render(d.ring(0.7), SIZE).sum()
    assert 0.35 < d.render(d.dashed(d.ring(0.7)), SIZE).sum() / whole < 0.75
