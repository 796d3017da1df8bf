import numpy as np
import pandas as pd
import pytest
import torch

from tests.evidence.classifiers import HALFWAY, LAST, Labelled, Learning, Recipe
from tests.evidence.cross_fit import CrossFit, Scheme
from tests.evidence.cross_fit_sizes import MIDDLE, OURS, SIZES, SMALL, UNTRAINED
from tests.evidence.macro_auc import macro_auc_of
from tests.evidence.stamps import FOLDS, Stamps
from tests.evidence.workbench import Workbench

CLASSES = ["round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral"]

VOTES = ["odd.yes", "odd_feature.irregular", "odd_feature.disturbed", "odd_feature.merger"]


@pytest.fixture
def stamps():
    """200 of Galaxy Zoo 2, each second one a near-duplicate of the one before, and 60 of another source."""
    table = pd.DataFrame(
        {
            "source": ["gz2"] * 200 + ["efigi"] * 60,
            "split": ["train"] * 220 + ["test"] * 40,
            "label.gz2_class": [CLASSES[i // 2 % 5] for i in range(200)] + [None] * 60,
            "duplicate_group": [i // 2 for i in range(200)] + list(range(200, 260)),
            **{f"votes.gz2_votes.{name}": [0.1] * 200 + [None] * 60 for name in VOTES},
        }
    )
    return Stamps(np.zeros((260, 3, 76, 76), np.uint8), table)


def test_no_galaxy_of_a_test_fold_nor_its_double_is_pre_trained_or_learnt_from(stamps):
    measurement = CrossFit(Workbench("part"), stamps, MIDDLE)
    groups = stamps.table["duplicate_group"].to_numpy()
    rows = stamps.rows("gz2")
    scheme = Scheme("five", tuple(CLASSES), (0, 1), Labelled(rows, np.zeros(len(rows), np.int64)))
    for fold in MIDDLE.tested:
        parts = measurement.parts(scheme, fold)
        tested = set(groups[parts.test.rows])
        assert len(parts.test.rows) and not tested & set(groups[measurement.unlabelled(fold)])
        assert not tested & set(groups[parts.train.rows]) and not tested & set(groups[parts.validation.rows])
    assert not np.isin(measurement.unlabelled(0), np.flatnonzero(stamps.table["split"] == "test")).any()


def test_every_galaxy_is_tested_once_and_each_fold_has_its_part_of_every_class(stamps):
    measurement = CrossFit(Workbench("part"), stamps, MIDDLE)
    of_gz2 = measurement.fold_of[stamps.rows("gz2")]
    assert set(of_gz2) == set(range(FOLDS))
    for name in CLASSES:
        counts = np.bincount(of_gz2[stamps.table["label.gz2_class"][:200] == name], minlength=FOLDS)
        assert counts.min() >= 2


@pytest.mark.parametrize("size", SIZES)
def test_each_size_asks_every_model_with_all_its_labels(stamps, size):
    measurement = CrossFit(Workbench("part", size), stamps, SIZES[size])
    wanted = measurement.wanted()
    assert len(wanted) == len(set(wanted))
    for name, counts in measurement.size.labels.items():
        assert {count for model, scheme, count, _, _ in wanted if (model, scheme) == (name, "five")} == set(counts)
    assert {(model, count) for model, scheme, count, _, _ in wanted if scheme == "four"} == {
        (name, 50) for name in measurement.size.of_four
    }


def test_fewer_labels_are_among_the_more():
    labelled = Labelled(np.arange(100), np.arange(100) % 5)
    five, ten = labelled.few(5, seed=3), labelled.few(10, seed=3)
    assert set(five.rows) < set(ten.rows)
    assert np.bincount(ten.codes).tolist() == [10] * 5


def test_perfect_answers_score_one_and_guesses_a_half_within_the_interval():
    generator = np.random.default_rng(0)
    codes = generator.integers(5, size=300)
    perfect = {"codes": codes, "probabilities": np.eye(5)[codes], "fold": 0}
    guessed = {"codes": codes, "probabilities": generator.random((300, 5)), "fold": 0}
    assert macro_auc_of([perfect], (0, 1, 3, 4), draws=20).value == 1
    score = macro_auc_of([guessed], (0, 1, 3, 4), draws=100)
    assert score.low < 0.5 < score.high


def test_a_rate_is_chosen_once_by_validation_at_fifty_labels_and_serves_everywhere(stamps, tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    scores, trained = {2.5e-4: 0.7, 5e-4: 0.75, 1e-3: 0.8, 2e-3: 0.9, 4e-3: 0.85}, []

    def train(self, name, scheme, per_class, fold, draw, rate):
        trained.append((scheme.name, per_class, fold, rate))
        return {"validation": scores[rate]}

    monkeypatch.setattr(CrossFit, "_trained", train)
    measurement = CrossFit(Workbench("part", "middle"), stamps, MIDDLE)
    assert measurement.rate(UNTRAINED) == 2e-3
    assert sorted(trained) == [("five", 50, 3, rate) for rate in scores]
    measurement.answers(UNTRAINED, measurement.four, 50, 4, 0)
    measurement.answers(UNTRAINED, measurement.five, 200, 4, 0)
    measurement.answers(UNTRAINED, measurement.five, 50, 3, 0)  # kept since the choice
    assert trained[len(scores) :] == [("four", 50, 4, 2e-3), ("five", 200, 4, 2e-3)]


def test_looks_consider_halfway_weights_of_what_was_pre_trained_and_keys_tell_so(stamps, monkeypatch):
    measurement = CrossFit(Workbench("part", "middle"), stamps, MIDDLE)
    keys = {}
    monkeypatch.setattr(Workbench, "cell", lambda _, measure, **key: keys.setdefault(key["labels"], {}).update(key))
    for name in (OURS, UNTRAINED):
        for labels in (0, 5):
            keys.clear()
            measurement.answers_at(1e-3, name, measurement.five, labels, 3, 0)
            assert ("looks" in keys[labels]) == (name == OURS and labels > 0)


@pytest.mark.parametrize(("considers", "kept"), [(LAST, 4.0), (HALFWAY, 2.0)])
def test_a_look_keeps_the_best_that_it_considers_and_the_training_goes_on_from_the_last(considers, kept):
    class Looking(Learning):
        def score(self):
            return -abs(self.classifier.weight.item() - 1.8)

    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    learning = Looking(network, Recipe(1e-3, 1, 1, considers=considers), look_steps=1)
    torch.nn.init.constant_(network.weight, 4.0)
    learning.look()
    assert network.weight.item() == 4.0 and network.training
    assert learning.best_weights["weight"].item() == kept and learning.best == pytest.approx(-abs(kept - 1.8))


def test_nothing_is_pre_trained_where_all_answers_are_kept(stamps, tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setattr(CrossFit, "_trained", lambda self, *wanted: {"validation": 0.5})
    monkeypatch.setattr(CrossFit, "_forest", lambda self, *wanted: {})
    asked = []
    monkeypatch.setattr(CrossFit, "pretrain", lambda self, names: asked.append(set(names)))
    measurement = CrossFit(Workbench("part", "small"), stamps, SMALL)
    measurement.prepare()
    for name, scheme, *rest in measurement.wanted():
        measurement.answers(name, measurement.scheme(scheme), *rest)
    measurement.prepare()
    assert OURS in asked[0] and not asked[1]
