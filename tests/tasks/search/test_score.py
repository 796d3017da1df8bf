"""A search's learner ranks its kind first, is registered with its labels, and is not made twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import architecture, build_lvm
from galaxy_models.predictor import Predictor, load_predictor
from galaxy_models.preference import Preference
from galaxy_models.search_model import SearchNetwork
from galaxy_models.search_view import View
from infra.errors import GalaxyError
from tasks.search import score
from tasks.search.features import SearchFeatures, feature_cache
from tasks.search.lesson import find_lesson
from tasks.search.score import score_search
from tasks.track.client import connect
from tests.tasks.search.conftest import COUNT, NO_EMBEDDING, WANTED

INPUTS = InputSpec(("g", "r", "z"), 32, 32, 1, (0.2, 0.3), unknown_pixel_scale=True)


@pytest.fixture
def vision_model(monkeypatch) -> Predictor:
    """The model behind the embeddings, as the registry would give it."""
    torch.manual_seed(0)
    network = build_lvm("nano")
    predictor = Predictor(ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(network)}, INPUTS), network)
    monkeypatch.setattr(score, "load_registered", lambda settings, name, version: predictor)
    return predictor


def test_scores_every_object_and_registers_the_learner_once(settings, lesson_of, vision_model):
    lesson = lesson_of([0, 10, 20, 1, 2, 4, 5])
    lesson.save(settings)
    made = score_search(settings, "bright-ones")

    table = pd.read_parquet(made["scores"])
    assert table["row"].tolist() == list(range(COUNT)) and table["object_id"][12] == "gal-012"
    assert np.isnan(table["p_wanted"][NO_EMBEDDING]) and np.isnan(table["rank"][NO_EMBEDDING])
    assert WANTED[table["rank"].argsort()[: WANTED.sum()]].mean() > 0.9
    assert table["label"].dropna().to_dict() == {0: "yes", 10: "yes", 20: "yes", 1: "no", 2: "no", 4: "no", 5: "no"}

    assert made["registered"] == {"name": "galaxy-search-bright-ones", "version": "1"}
    version = connect(settings).get_model_version("galaxy-search-bright-ones", "1")
    assert version.tags["galaxy.dataset_digest"] == "d" * 64
    card = json.loads((Path(made["model"]) / "card.json").read_text())
    assert card["labels"]["wanted"] == ["gal-000", "gal-010", "gal-020"]
    assert card["training_data"]["lesson_digest"] == lesson.digest
    images = torch.rand(2, 3, 32, 32).numpy()
    answer = load_predictor(Path(made["model"])).predict(images, "rgb", 0.0)
    assert answer["p_wanted"].shape == (2,)

    again = score_search(settings, "bright-ones")
    assert again["skipped"] and again["registered"] == made["registered"]


def test_the_model_says_of_a_stamp_what_the_learner_says_of_its_embedding(settings, catalogue, lesson_of, vision_model):
    features = SearchFeatures.open(catalogue, feature_cache(settings))
    lesson = lesson_of([0, 10, 1, 2])
    learnt = Preference.learn(features.features, lesson.rows_in(features), lesson.wanted)
    rgb = torch.rand(4, 3, 32, 32)
    embedding = vision_model.network.predict_columns(rgb)["embedding"]
    standard = ((embedding - features.mean) / features.spread).astype(np.float32)
    network = SearchNetwork.of(vision_model.network, View(), learnt.linear, features.mean, features.spread)
    said = Preference.from_dict(learnt.to_dict(), standard).probabilities()
    assert network.predict_columns(rgb)["p_wanted"] == pytest.approx(said, rel=1e-4)


def test_the_model_of_a_catalogue_that_tells_says_the_same_too(settings, telling_catalogue, lesson_of, vision_model):
    torch.manual_seed(1)
    network = vision_model.network = build_lvm("nano", tells_answers=True)
    features = SearchFeatures.open(telling_catalogue, feature_cache(settings))
    lesson = lesson_of([0, 10, 1, 2], catalogue=telling_catalogue)
    learnt = Preference.learn(features.features, lesson.rows_in(features), lesson.wanted)
    rgb = torch.rand(4, 3, 32, 32)
    seen = View(measured=True, rings=True, told=True).of_columns(network.predict_columns(rgb))
    standard = ((seen - features.mean) / features.spread).astype(np.float32)
    said = Preference.from_dict(learnt.to_dict(), standard).probabilities()
    search = SearchNetwork.of(network, features.view, learnt.linear, features.mean, features.spread)
    assert search.predict_columns(rgb)["p_wanted"] == pytest.approx(said, rel=1e-3)

    vision_model.card = ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(network)}, INPUTS)
    lesson.save(settings)
    made = score_search(settings, "bright-ones")
    answer = load_predictor(Path(made["model"])).predict(rgb.numpy(), "rgb", 0.0)
    assert answer["p_wanted"] == pytest.approx(said, abs=0.02), "the lesson's learner, through its folder"


def test_lessons_keep_and_the_newest_is_found_by_name(settings, lesson_of):
    first, second = lesson_of([0, 1]), lesson_of([0, 1, 2])
    assert lesson_of([1, 0]).digest == first.digest != second.digest
    place = first.save(settings)
    second.save(settings)
    assert find_lesson("bright-ones", settings) == second
    assert find_lesson(str(place), settings) == first
    with pytest.raises(GalaxyError, match=r"no search 'rings' in .*; there are: bright-ones"):
        find_lesson("rings", settings)
    with pytest.raises(GalaxyError, match="no search"):
        find_lesson("../searches/bright-ones", settings)


def test_labels_of_other_stamps_or_of_a_lost_object_are_refused(settings, catalogue, lesson_of):
    features = SearchFeatures.open(catalogue, feature_cache(settings))
    with pytest.raises(GalaxyError, match="labelled were stamps eeee"):
        lesson_of([0], dataset_digest="e" * 64).rows_in(features)
    with pytest.raises(GalaxyError, match="'gal-000' is not in"):
        lesson_of([0]).rows_in(replace(features, object_id=features.object_id[1:]))
    with pytest.raises(ValueError, match="no wanted object"):
        lesson_of([1])
    with pytest.raises(ValueError, match="name"):
        lesson_of([0], name="../x")
