"""The weakest task gets most of the training, none starves, and shares fall back after a recovery."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from galaxy_models.shares import TaskShares

TASKS = ("classification", "restoration", "reconstruction", "parameters")


def scores(**changed: float) -> dict[str, float]:
    return {task: 0.8 for task in TASKS} | changed


def test_the_weakest_task_gets_the_most_and_no_task_starves() -> None:
    shares = TaskShares(TASKS, floor=0.2)
    for _ in range(20):
        now = shares.update(scores(parameters=0.1, restoration=1.0))
    assert max(now, key=lambda task: now[task]) == "parameters"
    assert min(now.values()) >= 0.2 / len(TASKS) - 1e-9
    assert sum(now.values()) == pytest.approx(1)


def test_a_task_made_weak_gains_share_and_falls_back_when_it_recovers() -> None:
    shares = TaskShares(TASKS)
    before = shares.update(scores())["restoration"]
    weak = [shares.update(scores(restoration=0.2))["restoration"] for _ in range(4)]
    recovered = [shares.update(scores())["restoration"] for _ in range(12)]
    assert before < weak[0] < weak[-1]
    assert weak[-1] > recovered[0] > recovered[-1]
    assert recovered[-1] == pytest.approx(before, abs=1e-3)


def test_one_validation_moves_shares_only_by_its_part_of_the_average() -> None:
    slow, quick = TaskShares(TASKS, smoothing=0.9), TaskShares(TASKS, smoothing=0.0)
    jump = quick.update(scores(parameters=0.0))["parameters"] - 0.25
    assert slow.update(scores(parameters=0.0))["parameters"] - 0.25 == pytest.approx(0.1 * jump)


def test_a_task_at_its_reference_needs_no_more_than_the_floor() -> None:
    shares = TaskShares(TASKS, references={"restoration": 0.7}, floor=0.2, smoothing=0.0)
    now = shares.update(scores(restoration=0.75))
    assert now["restoration"] == pytest.approx(0.05, abs=2e-3)


def test_a_score_that_is_no_number_or_missing_counts_as_nought() -> None:
    shares = TaskShares(TASKS, smoothing=0.0)
    now = shares.update({"classification": float("nan"), "restoration": 0.9, "reconstruction": 0.9})
    assert now["classification"] == pytest.approx(now["parameters"])
    assert now["classification"] > now["restoration"]


def test_draws_follow_the_shares() -> None:
    shares = TaskShares(("a", "b"), "fixed", fixed={"a": 3, "b": 1})
    generator = torch.Generator().manual_seed(0)
    counts = Counter(shares.draw(generator) for _ in range(4000))
    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("kind", ["equal", "fixed"])
def test_equal_and_fixed_shares_do_not_move(kind: str) -> None:
    shares = TaskShares(("a", "b"), kind, fixed={"a": 0.9, "b": 0.1})
    before = dict(shares.shares)
    assert shares.update({"a": 0.0, "b": 1.0}) == before
    assert before["a"] == (0.5 if kind == "equal" else 0.9)


def test_the_state_goes_through_a_checkpoint_and_carries_on(tmp_path) -> None:
    shares = TaskShares(TASKS)
    shares.update(scores(parameters=0.2))
    torch.save(shares.state(), tmp_path / "state.pt")
    again = TaskShares(TASKS)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.update(scores()) == shares.update(scores())


def test_a_state_of_other_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="is of tasks"):
        TaskShares(("a", "b")).restore(TaskShares(TASKS).state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "random"}, "random"),
        ({"kind": "fixed", "fixed": {"classification": 1.0}}, "each of"),
        ({"floor": 0.0}, "floor"),
        ({"smoothing": 1.0}, "smoothing"),
    ],
)
def test_impossible_settings_are_refused_by_name(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        TaskShares(TASKS, **arguments)
