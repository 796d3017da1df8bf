"""Features are standardised once, row for row with the catalogue, and belong to what they were made from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.ring_structure import RING_COLUMNS
from galaxy_models.volunteer_answers import TOLD_COLUMNS, UNLIKELY
from infra.errors import GalaxyError
from tasks.search import features as module
from tasks.search.features import SearchFeatures, feature_cache
from tests.tasks.search.conftest import COUNT, NO_EMBEDDING, chances, embeddings, measures


def test_features_are_standardised_and_row_for_row(catalogue, settings):
    found = SearchFeatures.open(catalogue, feature_cache(settings))
    known = np.arange(COUNT) != NO_EMBEDDING
    assert isinstance(found.features, np.memmap) and found.features.dtype == np.float32
    assert np.abs(found.features[known].mean(axis=0)).max() < 1e-3
    assert np.abs(found.features[known].std(axis=0) - 1).max() < 1e-3
    assert np.isnan(found.features[NO_EMBEDDING]).all()
    back = found.features[known] * found.spread + found.mean
    assert np.allclose(back, embeddings()[known], atol=1e-3)
    assert found.object_id[7] == "gal-007" and np.isnan(found.dec[7]) and found.dec[8] == -1
    assert (found.survey, found.model, found.model_version, found.dataset_digest) == (
        "tiny", "galaxy-lvm", "3", "d" * 64,
    )  # fmt: skip


def test_what_is_measured_and_told_is_part_of_what_is_seen(telling_catalogue, catalogue, settings, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 64)
    plain = SearchFeatures.open(catalogue, feature_cache(settings))
    found = SearchFeatures.open(telling_catalogue, feature_cache(settings))
    size = plain.features.shape[1]
    told = size + len(MEASURED_COLUMNS) + len(RING_COLUMNS)
    assert found.features.shape == (COUNT, told + len(TOLD_COLUMNS))
    np.testing.assert_allclose(found.features[:, :size], plain.features, atol=1e-5)
    known = np.arange(COUNT) != NO_EMBEDDING
    assert np.isnan(found.features[NO_EMBEDDING]).all() and np.isfinite(found.features[known]).all()
    back = found.features[known] * found.spread + found.mean
    np.testing.assert_allclose(back[:, size:told], measures()[known], atol=1e-4)
    np.testing.assert_allclose(np.exp(back[:, told:]), np.maximum(chances()[known], np.exp(UNLIKELY)), rtol=1e-3)


def test_what_was_made_once_is_opened_and_not_made_again(catalogue, settings, monkeypatch):
    first = SearchFeatures.open(catalogue, feature_cache(settings))
    monkeypatch.setattr(module, "_make", None)
    again = SearchFeatures.open(catalogue, feature_cache(settings))
    assert np.array_equal(first.features, again.features, equal_nan=True)


def test_nothing_is_left_of_features_whose_making_was_stopped(catalogue, settings, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "create_reserved", stopped)
    with pytest.raises(KeyboardInterrupt):
        SearchFeatures.open(catalogue, feature_cache(settings))
    assert list(feature_cache(settings).iterdir()) == []


def test_a_folder_that_is_no_catalogue_and_one_without_embeddings_say_what_to_run(catalogue, settings, tmp_path):
    with pytest.raises(GalaxyError, match=r"is no published catalogue.*--stages infer"):
        SearchFeatures.open(tmp_path, feature_cache(settings))
    proof = json.loads((catalogue / "proof.json").read_text())
    (catalogue / "proof.json").write_text(json.dumps({**proof, "models": {}}))
    with pytest.raises(GalaxyError, match="no embeddings of galaxy-lvm"):
        SearchFeatures.open(catalogue, feature_cache(settings))
