"""Diagrams of honesty show what is said along x and what is true along y."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.train.finetune_figures import draw_coverage, draw_reliability


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def said(*confidences: float) -> np.ndarray:
    """(n, 2) probabilities of a model that always says the first class."""
    return np.array([[confidence, 1 - confidence] for confidence in confidences])


def test_reliability_has_confidence_along_x_and_accuracy_along_y(axes: Axes) -> None:
    codes = np.array([0, 0, 0, 1, 0, 1])
    calibrated, raw = said(0.7, 0.7, 0.7, 0.7, 0.88, 0.92), said(0.8, 0.8, 0.8, 0.8, 0.98, 1.0)
    draw_reliability(axes, {"shape": (calibrated, codes)}, {"shape": raw})
    (line, _, (bars,)) = axes.containers[0].lines
    assert line.get_xydata() == pytest.approx(np.array([[0.7, 0.75], [0.9, 0.5]]))
    assert np.asarray(axes.collections[-1].get_offsets()) == pytest.approx(line.get_xydata()), "a dot on every point"
    error = np.sqrt([0.75 * 0.25 / 4, 0.5 * 0.5 / 2])
    assert [segment[:, 1] for segment in bars.get_segments()] == [
        pytest.approx([0.75 - error[0], 0.75 + error[0]]),
        pytest.approx([0.5 - error[1], 0.5 + error[1]]),
    ], "one sigma of a share of so many"
    diagonal, before = (each for each in axes.lines if each.get_linestyle() == "--")
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert before.get_xydata() == pytest.approx(np.array([[0.8, 0.75], [0.99, 0.5]]))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "accuracy")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["shape (6)"]


def test_coverage_has_the_wanted_probability_along_x_and_the_share_found_along_y(axes: Axes) -> None:
    """Half a sigma is an interval of 38.3 %, one and a half are one of 86.6 %, three one of 99.7 %."""
    pulls = {"bar": np.array([0.5, 0.5, 0.5, 3.0]), "size": np.array([1.5, 1.5])}
    draw_coverage(axes, pulls, {name: 2 * values for name, values in pulls.items()}, "of this table")
    drawn = {line.get_label(): line for line in axes.lines}
    expected = {
        "bar (4)": {0.38: 0, 0.4: 0.75, 0.98: 0.75},
        "size (2)": {0.86: 0, 0.88: 1, 0.98: 1},
        "all, calibrated": {0.38: 0, 0.4: 0.5, 0.86: 0.5, 0.88: 5 / 6, 0.98: 5 / 6},
        "all, before": {0.68: 0, 0.7: 0.5, 0.98: 0.5},
    }
    for label, points in expected.items():
        x, y = drawn[label].get_xdata(), drawn[label].get_ydata()
        assert np.interp(list(points), x, y) == pytest.approx(list(points.values())), label
    assert drawn["all, before"].get_linestyle() == "--" and drawn["all, calibrated"].get_linestyle() == "-"
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("probability of the interval", "share of truths within")
    assert axes.get_title() == "of this table"
