"""Pictures of simulated galaxies, with what volunteers would say."""

from __future__ import annotations

import numpy as np
import pytest

from galaxy_models.simulation import pictures
from galaxy_models.simulation.pictures import DARK, GAIN, draw_picture
from galaxy_models.volunteer_answers import PLACES

SIZE = 76


def test_a_picture_is_a_function_of_its_seed_and_number() -> None:
    first, again, other = draw_picture(3, 7, SIZE), draw_picture(3, 7, SIZE), draw_picture(3, 8, SIZE)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.answers, again.answers)
    assert not np.array_equal(first.rgb, other.rgb)


def test_galaxies_fill_the_middle_of_a_dark_sky_and_vary_in_size_and_brightness() -> None:
    rgb = np.stack([draw_picture(3, index, SIZE).rgb for index in range(24)]).astype(float)
    assert rgb.shape == (24, 3, SIZE, SIZE)
    sky = np.median(rgb, axis=(1, 2, 3))
    assert np.all(np.abs(sky - DARK * GAIN) <= 2)
    middle = rgb[:, :, 30:46, 30:46].mean(axis=(1, 2, 3))
    assert np.mean(middle > sky + 10) > 0.9, "galaxies are seen"
    assert middle.std() / middle.mean() > 0.3, "faint ones and bright ones"


def test_each_question_has_chances_that_sum_to_one_and_thin_galaxies_are_called_edge_on() -> None:
    drawn = [draw_picture(5, index, SIZE) for index in range(40)]
    answers = np.stack([picture.answers for picture in drawn])
    assert answers.shape == (40, len(PLACES))
    assert np.all(answers >= 0)
    questions = {question for question, _ in PLACES}
    for question in questions:
        places = [place for (of, _), place in PLACES.items() if of == question]
        assert np.allclose(answers[:, places].sum(axis=1), 1, atol=1e-5)
    widths = np.array([_axis_ratio(picture.rgb) for picture in drawn])
    edge_on = answers[:, PLACES["disk_edge_on", "yes"]]
    assert np.corrcoef(widths, edge_on)[0, 1] < -0.4


def test_who_sees_less_says_smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise hides arms from volunteers as it does from anybody."""
    featured = []
    for noise in (0.0003, 0.03):
        monkeypatch.setattr(pictures, "NOISE", (noise, noise * 1.01))
        answers = np.stack([draw_picture(5, index, SIZE).answers for index in range(30)])
        featured.append(answers[:, PLACES["smooth_or_featured", "featured_or_disk"]].mean())
    assert featured[0] > featured[1] + 0.1


def _axis_ratio(rgb: np.ndarray) -> float:
    """Of the light in the middle, by second moments."""
    light = np.clip(rgb.mean(axis=0)[14:62, 14:62] - 12, 0, None)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] - (light.shape[0] - 1) / 2
    light = light * np.exp(-(x**2 + y**2) / (2 * 10.0**2))
    moments = np.array([[(light * x * x).sum(), (light * x * y).sum()], [(light * x * y).sum(), (light * y * y).sum()]])
    small, large = np.linalg.eigvalsh(moments)
    return float(np.sqrt(small / large))
