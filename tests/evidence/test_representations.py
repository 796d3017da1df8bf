import numpy as np
import pandas as pd
import pytest

from tests.evidence.classifiers import Labelled
from tests.evidence.representations import EFIGI_TYPES, Question, asked, efigi
from tests.evidence.stamps import Stamps

CLASSES = 3


@pytest.fixture
def question():
    """150 galaxies to learn from, as many to choose by and as many that are asked, of three classes."""
    parts = np.split(np.arange(450), 3)
    return Question("toy", *(Labelled(rows, rows % CLASSES) for rows in parts))


def in_three_heaps(rows):
    noise = np.random.default_rng(0).normal(size=(450, 4))[rows]
    return np.eye(CLASSES, 4)[rows % CLASSES] * 10 + noise


def noise_alone(rows):
    return np.random.default_rng(1).normal(size=(450, 4))[rows]


def test_vectors_that_know_the_class_score_one_and_noise_scores_as_guessing_does(question):
    knowing, guessing = asked(in_three_heaps, question), asked(noise_alone, question)
    for kind in ("probe", "neighbours"):
        assert knowing[kind] == (1, 1, 1)
        value, low, high = guessing[kind]
        assert low < value < high and value == pytest.approx(1 / CLASSES, abs=0.1)


def test_classes_that_are_rare_weigh_as_much_as_others():
    codes = np.array([0] * 90 + [1] * 10)
    rows = np.arange(100)
    question = Question("toy", *(Labelled(rows, codes) for _ in range(3)))
    value, _, _ = asked(lambda rows: np.zeros((len(rows), 2)), question)["neighbours"]
    assert value == 0.5  # all are called the same


def test_the_question_of_efigi_keeps_the_splits_of_the_survey():

    table = pd.DataFrame(
        {
            "source": "efigi",
            "split": ["train", "train", "validation", "test", "guard"],
            "label.efigi_type": [f"efigi_{EFIGI_TYPES[0]}", None, "efigi_spindle", f"efigi_{EFIGI_TYPES[4]}", None],
        }
    )
    question = efigi(Stamps(np.zeros((5, 3, 76, 76), np.uint8), table))
    assert question.gallery.rows.tolist() == [0] and question.gallery.codes.tolist() == [0]
    assert question.validation.rows.tolist() == []
    assert question.asked.rows.tolist() == [3] and question.asked.codes.tolist() == [4]
