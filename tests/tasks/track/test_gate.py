"""The gate on a real registry: who is champion after what, and what the version says about it."""

from __future__ import annotations

import numpy as np
import pytest

from infra.errors import GalaxyError
from tasks.track.client import connect
from tasks.track.decision import evaluation
from tasks.track.gate import decide_and_promote, roll_back
from tasks.track.registry import register, resolve
from tasks.track.runs import stage_run
from tasks.track.scores import score

NAME = "galaxy-lvm"


@pytest.fixture
def version_of(settings, survey, profile, package_with, tiny_result, tmp_path):
    """Registers a model whose evaluation has `right` correct of `of` objects; gives its version and evaluation."""
    package = package_with(7.0)

    def make(scale: float, right: int, of: int = 100, scored: bool = True, metric: str = "sim.accuracy"):
        result = tiny_result(scale)
        ids = [f"sim-{i:04d}" for i in range(of)]
        table = evaluation(ids, ["spiral"] * of, (np.arange(of) < right).astype(float))
        path = tmp_path / f"evaluation-{scale:g}.parquet"
        (table if scored else table.drop(columns="score")).to_parquet(path, index=False)
        result["evaluation"] = {"metric": metric, "higher_is_better": True, "scores": str(path)}
        with stage_run(settings, survey, profile, "pretrain", f"{scale:g}", tmp_path / f"stage-{scale:g}") as run:
            run.log_result(result)
            version = register(settings, NAME, result, stage_key=f"{scale:g}", run_id=run.run_id, package=package)
        return version, result["evaluation"]

    return make


def aliases(settings) -> dict[str, str]:
    return {alias: str(number) for alias, number in connect(settings).get_registered_model(NAME).aliases.items()}


def test_better_version_takes_over_and_can_be_rolled_back(settings, version_of):
    first, judged = version_of(1, 50)
    assert decide_and_promote(settings, NAME, first, judged).outcome == "bootstrap"
    assert aliases(settings) == {"challenger": "1", "champion": "1"}
    second, better = version_of(2, 80)
    decision = decide_and_promote(settings, NAME, second, better)
    assert decision.promote and (decision.challenger, decision.champion) == (0.8, 0.5)
    assert aliases(settings) == {"challenger": "2", "champion": "2", "previous": "1"}
    tags = connect(settings).get_model_version(NAME, second).tags
    assert tags["gate.decision"] == "promote"
    assert tags["gate.outcome"] == "better"
    assert float(tags["gate.low"]) == decision.low > 0
    assert roll_back(settings, NAME) == "1"
    assert aliases(settings) == {"challenger": "2", "champion": "1", "previous": "2"}
    assert decide_and_promote(settings, NAME, second, better) == decision  # the same stage, seen again
    assert resolve(settings, NAME) == "1"  # does not undo the roll-back


def test_version_that_is_not_better_changes_no_alias(settings, version_of):
    first, judged = version_of(1, 50)
    decide_and_promote(settings, NAME, first, judged)
    second, equal = version_of(2, 51)
    decision = decide_and_promote(settings, NAME, second, equal)
    assert decision.outcome == "not_better"
    assert decision.sentence.startswith("not promoted")
    assert aliases(settings) == {"challenger": "2", "champion": "1"}
    assert connect(settings).get_model_version(NAME, second).tags["gate.decision"] == "keep"


def test_killed_before_the_alias_moved(settings, version_of, monkeypatch):
    first, judged = version_of(1, 50)
    decide_and_promote(settings, NAME, first, judged)
    second, better = version_of(2, 80)
    client = connect(settings)
    move = client.set_registered_model_alias

    def killed(name: str, alias: str, version: str) -> None:
        if alias == "champion":
            raise KeyboardInterrupt
        move(name, alias, version)

    monkeypatch.setattr(client, "set_registered_model_alias", killed)
    with pytest.raises(KeyboardInterrupt):
        decide_and_promote(settings, NAME, second, better)
    assert aliases(settings)["champion"] == "1"
    monkeypatch.undo()
    assert decide_and_promote(settings, NAME, second, better).promote
    assert aliases(settings) == {"challenger": "2", "champion": "2", "previous": "1"}


def test_older_promotion_that_comes_late_does_not_overtake(settings, version_of, monkeypatch):
    first, judged = version_of(1, 40)
    decide_and_promote(settings, NAME, first, judged)
    second, better = version_of(2, 60)
    third, best = version_of(3, 90)
    with monkeypatch.context() as patched:
        patched.setattr("tasks.track.gate._crown", lambda *_: None)  # killed just before the aliases
        assert decide_and_promote(settings, NAME, second, better).promote
    assert decide_and_promote(settings, NAME, third, best).promote
    decide_and_promote(settings, NAME, second, better)
    assert aliases(settings)["champion"] == third


def test_champion_of_another_set_is_asked_anew(settings, version_of):
    first, judged = version_of(1, 50, of=60)
    decide_and_promote(settings, NAME, first, judged)
    second, other = version_of(2, 90)
    asked = []

    def rescore(version, table, metric):
        asked.append((version, metric, "score" in table))
        return table.assign(score=0.0)

    decision = decide_and_promote(settings, NAME, second, other, rescore=rescore)
    assert asked == [("1", "sim.accuracy", False)]
    assert (decision.promote, decision.champion) == (True, 0.0)
    third, changed = version_of(3, 100)
    decide_and_promote(settings, NAME, third, changed, dataset_digest="other pixels", rescore=rescore)
    assert asked[-1][0] == "2"  # same objects, other dataset: asked again


@pytest.mark.parametrize("error", [ValueError("units is 'rgb'"), GalaxyError("it knows other classes"), None])
def test_champion_that_cannot_answer_stays(settings, version_of, error):
    first, judged = version_of(1, 50, of=60)
    decide_and_promote(settings, NAME, first, judged)
    second, other = version_of(2, 100)

    def rescore(version, table, metric):
        raise error

    decision = decide_and_promote(settings, NAME, second, other, rescore=rescore if error else None)
    assert (decision.promote, decision.outcome) == (False, "not_comparable")
    assert str(error or "nothing was given to ask") in decision.reason
    assert aliases(settings)["champion"] == "1"


def test_set_without_scores_is_scored_by_the_registered_version(settings, version_of):
    def rescore(version, table, metric):
        return table.assign(score=float(version))  # version 2 earns more than version 1

    first, judged = version_of(1, 50, scored=False)
    assert decide_and_promote(settings, NAME, first, judged, rescore=rescore).challenger == 1
    second, other = version_of(2, 50, scored=False)

    def only_new(version, table, metric):
        assert version == "2"  # the champion's scores of this very set were kept
        return rescore(version, table, metric)

    decision = decide_and_promote(settings, NAME, second, other, rescore=only_new)
    assert (decision.promote, decision.challenger, decision.champion) == (True, 2, 1)
    third, unscored = version_of(3, 50, scored=False)
    assert decide_and_promote(settings, NAME, third, unscored).outcome == "not_comparable"


def test_nothing_to_roll_back_to(settings, version_of):
    first, judged = version_of(1, 50)
    decide_and_promote(settings, NAME, first, judged)
    with pytest.raises(GalaxyError, match="no previous champion"):
        roll_back(settings, NAME)


def test_scores_follow_from_columns():
    import pandas as pd

    table = pd.DataFrame({"object_id": list("abc"), "label": ["spiral", "round", "spiral"]})
    columns = {"p_spiral": np.array([0.6, 0.3, 0.2]), "p_round": np.array([0.1, 0.4, 0.3]), "p_ring": np.ones(3)}
    assert score(columns, table, "gz2.accuracy").tolist() == [1, 1, 0]  # p_ring is of another question
    prefixed = {f"p_gz2_{name[2:]}": values for name, values in columns.items()}
    assert score(prefixed, table, "gz2.accuracy").tolist() == [1, 1, 0]
    assert score({"lens_score": np.array([0.1, 0.9, 0.3])}, table, "sw.auc").tolist() == [0.1, 0.9, 0.3]
    with pytest.raises(GalaxyError, match="does not know all of round, spiral"):
        score({"p_ring": np.ones(3)}, table, "gz2.accuracy")
    with pytest.raises(GalaxyError, match=r"no score for the metric sim.masked_l1"):
        score({"embedding": np.ones((3, 2))}, table, "sim.masked_l1")
    vectors = np.repeat([[1.0, 0.0], [0.0, 1.0]], 12, axis=0)
    role = (["query"] * 2 + ["gallery"] * 10) * 2
    neighbours = pd.DataFrame({"label": ["spiral"] * 12 + ["round"] * 11 + ["spiral"], "role": role})
    found = score({"embedding": vectors}, neighbours, "gz2.knn_precision")
    assert found[[0, 1, 12, 13]].tolist() == [1, 1, 0.9, 0.9]  # one of the round ones' ten is a spiral
    assert np.isnan(found).sum() == 20
