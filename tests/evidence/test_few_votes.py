import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.lvm import build_lvm
from tests.evidence.classifiers import Recipe
from tests.evidence.cross_fit import CrossFit
from tests.evidence.cross_fit_sizes import MEAN, MIDDLE, OWN_FOREST, UNTRAINED
from tests.evidence.few_votes import VoteFit
from tests.evidence.stamps import Stamps
from tests.evidence.vote_networks import (
    TOLD,
    OurVotes,
    Votes,
    VotesFromScratch,
    error_of,
    told_fractions,
    told_without_votes,
    train_votes,
)
from tests.evidence.workbench import Workbench

QUESTIONS = [("smooth", ("smooth", "featured", "artifact")), ("odd", ("yes", "no"))]


@pytest.fixture
def stamps():
    """150 galaxies: bright squares of many sizes, whose size the votes on `smooth` tell."""
    images = np.zeros((150, 3, 76, 76), np.uint8)
    for row in range(150):
        half = 4 + row % 25
        images[row, :, 38 - half : 38 + half, 38 - half : 38 + half] = 200
    classes = ["round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral"]
    names = ["odd.yes", "odd_feature.irregular", "odd_feature.disturbed", "odd_feature.merger"]
    table = pd.DataFrame(
        {
            "source": "gz2",
            "split": "train",
            "label.gz2_class": [classes[row % 5] if row < 100 else None for row in range(150)],
            "duplicate_group": range(150),
            **{f"votes.gz2_votes.{name}": 0.1 for name in names},
        }
    )
    return Stamps(images, table)


@pytest.fixture
def votes():
    """Larger galaxies are featured; of every third nobody was asked whether it is odd."""
    size = (np.arange(150) % 25 / 25).astype(np.float32)
    odd = np.where(np.arange(150) % 3, 0.2, np.nan).astype(np.float32)
    fractions = {
        "smooth": np.stack([0.9 - 0.8 * size, 0.8 * size, 0.1 + 0 * size], 1),
        "odd": np.stack([odd, 1 - odd], 1),
    }
    return Votes(QUESTIONS, fractions, {name: np.full(150, 20, np.float32) for name, _ in QUESTIONS})


@pytest.fixture
def fit(stamps, votes, tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    return VoteFit(CrossFit(Workbench("part", "middle"), stamps, MIDDLE), votes)


def test_all_galaxies_of_a_test_fold_are_asked_and_only_labelled_ones_of_other_folds_learnt_from(fit):
    asked = fit.asked(3)
    classes = fit.measurement.stamps.table["label.gz2_class"]
    assert classes.iloc[asked].isna().any()
    learnt = fit.learnt(50, 3, 0)
    assert len(learnt) and not classes.iloc[learnt].isna().any()
    assert not set(fit.measurement.fold_of[learnt]) & {3, 4}
    assert set(fit.learnt(5, 3, 0)) < set(learnt)


def test_error_is_that_of_each_question_whatever_the_number_of_its_galaxies():
    squares = np.full((10, 3), np.nan)
    squares[:, 0], squares[0, 1] = 0.01, 0.09
    assert error_of(squares) == pytest.approx((0.1 + 0.3) / 2)


def test_a_forest_beats_the_mean_where_the_picture_tells_and_an_unasked_question_counts_not(fit):
    mean, forest = (fit.squares(name, 50) for name in (MEAN, OWN_FOREST))
    assert np.isnan(mean[:, 1]).any() and (np.isnan(mean) == np.isnan(forest)).all()
    assert error_of(forest) < 0.5 * error_of(mean)
    assert error_of(mean[:, 1:]) == pytest.approx(0, abs=1e-3)  # of odd all say the same


@pytest.mark.parametrize("ours", [True, False])
def test_a_network_learns_votes_better_than_their_mean(stamps, votes, ours):
    torch.manual_seed(0)
    network = (
        OurVotes(build_lvm("nano"), QUESTIONS, 1.0)
        if ours
        else VotesFromScratch("resnet18", QUESTIONS, torch.zeros(3), torch.ones(3))
    )
    rows, asked = np.arange(100), np.arange(100, 150)
    score = train_votes(network, stamps, votes, rows, asked, Recipe(1e-3, 1, 40, batch_size=16), seed=0)
    error = error_of(votes.squares(asked, told_fractions(network, stamps, asked, looks=1)))
    of_mean = np.square(votes.fractions["smooth"] - votes.fractions["smooth"].mean(axis=0)).mean() ** 0.5
    assert error == pytest.approx(-score)
    assert error_of(votes.squares(asked, told_fractions(network, stamps, asked))[:, :1]) < 0.7 * of_mean


@pytest.mark.parametrize("name", [UNTRAINED, "resnet18"])
def test_what_a_network_tells_depends_on_nothing_but_its_seed(stamps, votes, tmp_path, monkeypatch, name):
    monkeypatch.setattr("tests.evidence.few_votes.recipe_at", lambda rate: Recipe(rate, 1, 2, batch_size=8))
    monkeypatch.setattr(CrossFit, "rate", lambda self, name: 1e-3)

    def measured(home, seed):
        monkeypatch.setenv("GALAXY_HOME", str(tmp_path / home))
        torch.manual_seed(seed)
        fit = VoteFit(CrossFit(Workbench("part", "middle"), stamps, MIDDLE), votes)
        return fit.answers((name, 50, 3, 0))["squares"]

    assert measured("one", 1) == measured("other", 2)


def test_what_pre_training_tells_are_fractions_of_each_question(stamps):
    told = told_without_votes(build_lvm("nano", True), stamps, np.arange(3))
    assert set(told) == set(TOLD)
    for fractions in told.values():
        assert fractions.sum(axis=1) == pytest.approx(1)
