"""Labels that another network needs: between its points, and the interval holds what is true."""

import numpy as np
import pytest

from tests.evidence.label_efficiency import efficiencies
from tests.evidence.labels_needed import labels_needed


def answers(codes, separation, seed):
    """Two classes of which one scores higher by so many sigmas."""
    score = np.random.default_rng(seed).normal(size=len(codes)) + separation * codes
    return [{"codes": codes, "probabilities": np.stack([-score, score], axis=1), "fold": 3}]


def test_labels_needed_are_where_the_curve_first_gets_there_and_at_least_its_end_where_it_does_not():
    curve = {10: 0.7, 100: 0.9, 1000: 0.85}
    assert labels_needed(curve, 0.8) == (pytest.approx(np.sqrt(1000)), True)
    assert labels_needed(curve, 0.6) == (10.0, True)
    assert labels_needed(curve, 0.9) == (pytest.approx(100), True), "where the curve falls again it had got there"
    assert labels_needed(curve, 0.95) == (1000.0, False)


def test_the_interval_holds_the_ratio_and_narrows_with_more_galaxies():
    def found(count):
        codes = np.arange(count) % 2
        others = {labels: answers(codes, 0.5 * np.log10(labels), labels) for labels in (1, 10, 100, 1000)}
        [few, many] = efficiencies({0: others[1], 200: others[1000], 2: answers(codes, 1.0, 7)}, others, (0, 1), 60)
        return few, many

    (few, many), (of_more, _) = found(400), found(4000)
    assert (few.labels, many.labels) == (2, 200)
    for each in (few, of_more):
        assert each.reached and each.low < 100 / 2 < each.high, "with 100 labels the other has a separation of 1"
    assert of_more.high / of_more.low < few.high / few.low
    assert many.needed == pytest.approx(1000) and many.high <= 1000 / 200 + 1e-9


def test_where_the_other_never_gets_there_the_most_that_was_measured_counts():
    codes = np.arange(300) % 2
    [found] = efficiencies(
        {5: answers(codes, 3.0, 1)}, {10: answers(codes, 0.1, 2), 20: answers(codes, 0.2, 3)}, (0, 1)
    )
    assert not found.reached and found.ratio == found.high == pytest.approx(4)
