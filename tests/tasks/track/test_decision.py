"""The gate's arithmetic, on scores whose statistics are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from infra.errors import GalaxyError
from tasks.track.decision import decide, evaluation, evaluation_digest, not_comparable, statistic_of, value_of


def judged(scores: np.ndarray, positive: np.ndarray | None = None) -> pd.DataFrame:
    ids = [f"galaxy-{i:05d}" for i in range(len(scores))]
    return evaluation(ids, ["spiral"] * len(scores), scores, positive)


def right(count: int, of: int) -> np.ndarray:
    return (np.arange(of) < count).astype(float)


def test_first_version_is_bootstrapped():
    decision = decide(judged(right(5, 10)), None)
    assert decision.promote
    assert decision.tags()["gate.outcome"] == "bootstrap"
    assert decision.challenger == 0.5


def test_interval_is_that_of_a_paired_difference():
    """60 of 400 objects gained and none lost: mean 0.15, standard error sqrt(0.15 x 0.85 / 400) = 0.0179."""
    decision = decide(judged(right(300, 400)), judged(right(240, 400)))
    assert decision.promote and decision.outcome == "better"
    assert decision.low == pytest.approx(0.15 - 1.96 * 0.0179, abs=0.005)
    assert decision.high == pytest.approx(0.15 + 1.96 * 0.0179, abs=0.005)


def test_pairing_sees_what_separate_intervals_would_not():
    """A gain of 3 points is far inside each model's own interval, but every changed object changed for the better."""
    assert decide(judged(right(312, 600)), judged(right(294, 600))).promote


def test_gains_balanced_by_losses_do_not_promote():
    generator = np.random.default_rng(3)
    champion = (generator.random(400) < 0.7).astype(float)
    challenger = champion.copy()
    flipped = generator.choice(400, 60, replace=False)
    challenger[flipped] = 1 - challenger[flipped]
    challenger[flipped[:2]] = 1
    decision = decide(judged(challenger), judged(champion))
    assert not decision.promote
    assert decision.low < 0
    equal = decide(judged(champion), judged(champion))
    assert not equal.promote and equal.low == equal.high == 0


def test_direction_of_the_metric():
    better, worse = judged(np.full(50, 1.0)), judged(np.full(50, 2.0))
    assert decide(better, worse, higher_is_better=False).promote
    assert not decide(worse, better, higher_is_better=False).promote
    assert not decide(better, worse, higher_is_better=True).promote


def test_few_objects_or_positives_never_promote():
    assert decide(judged(np.ones(29)), judged(np.zeros(29))).outcome == "too_few"
    assert decide(judged(np.ones(30)), judged(np.zeros(30))).promote
    rare = np.arange(500) < 29
    assert decide(judged(np.ones(500), rare), judged(np.zeros(500), rare)).outcome == "too_few"


def test_area_under_the_curve():
    positive = np.arange(80) < 40
    perfect, reverse, tied = positive.astype(float), -positive.astype(float), np.zeros(80)
    values = [value_of(judged(scores, positive), "auc") for scores in (perfect, reverse, tied)]
    assert values == [1, 0, 0.5]
    assert decide(judged(perfect, positive), judged(tied, positive), statistic="auc").promote
    assert not decide(judged(tied, positive), judged(tied, positive), statistic="auc").promote
    few = decide(judged(perfect, np.arange(80) < 60), judged(tied, np.arange(80) < 60), statistic="auc")
    assert few.outcome == "too_few"  # 20 negatives
    assert statistic_of("space_warps.auc") == "auc"
    assert statistic_of("gz2_class.accuracy") == "mean"


def test_rows_stay_with_their_objects():
    table = evaluation(["b", "a"], ["x", "y"], [0.0, 1.0], rows=[7, 3])
    assert table[["object_id", "label", "score", "row"]].values.tolist() == [["a", "y", 1.0, 3], ["b", "x", 0.0, 7]]


def test_gallery_is_not_judged():
    """Objects that others are compared with have no score of their own, but are part of the question."""
    gallery = pd.DataFrame({"object_id": ["z-1"], "label": ["spiral"], "score": [np.nan], "role": ["gallery"]})
    better, worse = (pd.concat([judged(right(n, 60)).assign(role="query"), gallery]) for n in (60, 20))
    decision = decide(better, worse)
    assert decision.promote and decision.objects == 60
    assert evaluation_digest(better) != evaluation_digest(better[better["role"] == "query"])


def test_average_precision_ranks():
    positive = np.arange(80) < 40
    assert value_of(judged(positive.astype(float), positive), "average_precision") == 1
    assert statistic_of("sw.average_precision") == "average_precision"
    with pytest.raises(GalaxyError, match="`positive`"):
        value_of(judged(right(3, 9)), "average_precision")


def test_order_of_rows_does_not_matter():
    generator = np.random.default_rng(0)
    first, second = judged(generator.random(60)), judged(generator.random(60))
    shuffled = second.sample(frac=1, random_state=1)
    assert decide(first, second) == decide(first, shuffled)


def test_another_set_is_not_compared():
    other = judged(right(30, 60)).assign(label="elliptical")
    decision = decide(judged(right(60, 60)), other)
    assert (decision.promote, decision.outcome) == (False, "not_comparable")
    assert not not_comparable("units").promote


def test_digest_is_of_the_question_and_not_of_the_answer():
    one, two = judged(right(3, 9)), judged(right(8, 9))
    assert evaluation_digest(one) == evaluation_digest(two.sample(frac=1, random_state=2))
    assert evaluation_digest(one) != evaluation_digest(one.assign(label="ring"))
    assert evaluation_digest(one, "pixels a") != evaluation_digest(one, "pixels b")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"object_id": ["a"], "label": ["x"]}), "score"),
        (pd.DataFrame({"object_id": ["a", "a"], "label": ["x", "x"], "score": [1.0, 0.0]}), "'a' is there twice"),
        (pd.DataFrame({"object_id": ["a", "b"], "label": ["x", "x"], "score": [1.0, np.nan]}), "'b' has no score"),
    ],
)
def test_unusable_sets_are_refused_by_name(table, said):
    with pytest.raises(GalaxyError, match=said):
        decide(table, None)
