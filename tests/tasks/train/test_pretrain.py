"""Pre-training as a stage: what it leaves behind, that it resumes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from galaxy_models.inputs import InputError
from galaxy_models.lvm import build_lvm
from galaxy_models.predictor import load_network, load_predictor
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.training import DivergedError, step_seed
from infra.errors import GalaxyError
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.common import evenly, sample_stamps, stamps_in_order, weights_digest, write_evaluation
from tasks.train.pretrain import pretrain

Make = Callable[..., StageContext]


class StopError(Exception):
    """Stands for a kill inside the process."""


@dataclass(frozen=True)
class Trained:
    """An undisturbed run and what it told."""

    result: dict[str, Any]
    records: list[int]


@pytest.fixture(scope="module")
def trained(drawn_context: Make) -> Trained:
    records: list[int] = []
    result = pretrain(drawn_context(record=lambda step, metrics: records.append(step)))
    return Trained(result, records)


@pytest.fixture
def prepared(drawn_prepared: Callable[[str], PreparedDataset]) -> PreparedDataset:
    return drawn_prepared("rgb")


def test_leaves_a_model_that_answers_by_its_card(trained: Trained, prepared: PreparedDataset) -> None:
    json.dumps(trained.result)
    predictor = load_predictor(Path(trained.result["model"]))
    stamps = prepared.dataset.read_rows([0, 1, 2]).astype(np.float32) / 255
    embedding = predictor.predict(stamps, "rgb", 0.25)["embedding"]
    assert embedding.shape == (3, 144) and embedding.dtype == np.float32 and np.isfinite(embedding).all()
    card = predictor.card
    assert card.inputs.unknown_pixel_scale, "a quarter of the stamps has no known scale"
    assert card.inputs.pixel_scale[0] < 0.25 < card.inputs.pixel_scale[1]
    assert card.training_data["prepared_digest"] == prepared.digest
    assert card.training_data["stamps"] == len(prepared.rows("train"))
    with pytest.raises(InputError, match="legal are"):
        predictor.predict(stamps, "rgb", 6.0)
    assert trained.result["weights_digest"] == weights_digest(Path(trained.result["model"]))


def test_records_each_point_once_and_draws_figures_that_are_not_blank(
    trained: Trained, prepared: PreparedDataset
) -> None:
    assert trained.records == sorted(set(trained.records))
    assert trained.records[-1] == -(-len(prepared.rows("train")) // 8) - 1, "one epoch in batches of 8"
    assert len(trained.result["figures"]) == 5
    for figure in trained.result["figures"]:
        assert np.asarray(Image.open(figure).convert("L")).std() > 5, f"{figure} is blank"


def test_metrics_carry_their_source_and_stand_beside_their_controls(trained: Trained) -> None:
    metrics = trained.result["metrics"]
    for source in ("drawn", "plain"):
        assert 0 < metrics[f"{source}.masked_l1"] < 1 and 0 < metrics[f"{source}.masked_l1_mean_colour"] < 1
    for name in ("", "_untrained", "_pixels"):
        assert 0 <= metrics[f"shape.knn_precision{name}"] <= 1
    assert metrics["shape.knn_precision_chance"] == pytest.approx(1 / 3, abs=0.02)
    assert metrics["shape.knn_precision_low"] <= metrics["shape.knn_precision"] <= metrics["shape.knn_precision_high"]
    assert trained.result["headline"] == "shape.knn_precision" == trained.result["evaluation"]["metric"]
    assert trained.result["evaluation"]["higher_is_better"] is True


def test_evaluation_set_is_fixed_and_scores_average_to_the_headline(
    drawn_context: Make, trained: Trained, prepared: PreparedDataset
) -> None:
    first, second = trained.result, pretrain(drawn_context(seed=5, max_steps=1))
    assert first["weights_digest"] != second["weights_digest"]
    assert first["evaluation"]["digest"] == second["evaluation"]["digest"]
    scores = pd.read_parquet(first["evaluation"]["scores"])
    queries = scores[scores["role"] == "query"]
    assert queries["score"].mean() == pytest.approx(first["metrics"]["shape.knn_precision"])
    table = prepared.table.set_index("object_id")
    assert (table.loc[queries["object_id"], "split"] == "test").all()
    assert (table.loc[scores.loc[scores["role"] == "gallery", "object_id"], "split"] == "train").all()
    assert (table.loc[scores["object_id"], "source"] == "drawn").all(), "neighbours never cross sources"


@pytest.mark.parametrize("stop", [3, -1])
def test_stopped_and_started_again_ends_with_the_same_weights(drawn_context: Make, trained: Trained, stop: int) -> None:
    """Stopped between two checkpoints, or after the last step, before the model is saved."""
    context = drawn_context()

    def stop_there(done: int, total: int, note: str = "") -> None:
        if done == (stop if stop > 0 else total):
            raise StopError

    with pytest.raises(StopError):
        pretrain(replace(context, progress=stop_there))
    steps: list[int] = []
    resumed = pretrain(replace(context, progress=lambda done, total, note="": steps.append(done)))
    assert resumed["weights_digest"] == trained.result["weights_digest"]
    assert resumed["metrics"] == trained.result["metrics"]
    assert steps[0] > 2, "it did not begin anew"


@pytest.mark.slow
def test_processes_that_read_ahead_change_nothing(drawn_context: Make, trained: Trained) -> None:
    result = pretrain(drawn_context(loader_workers=2))
    assert result["weights_digest"] == trained.result["weights_digest"]


def test_steps_of_several_batches_and_averaged_weights(drawn_context: Make, prepared: PreparedDataset) -> None:
    plain = pretrain(drawn_context(accumulate=2))
    averaged = pretrain(drawn_context(accumulate=2, ema_decay=0.9))
    assert plain["parameters"]["steps"] == str(-(-len(prepared.rows("train")) // 16)), "an epoch, as ever"
    assert averaged["weights_digest"] != plain["weights_digest"]
    again = pretrain(drawn_context(accumulate=2, ema_decay=0.9))
    assert again["weights_digest"] == averaged["weights_digest"]


def test_a_loss_that_is_no_number_names_the_galaxies(drawn_context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    step = MaskedReconstruction.training_step_at
    monkeypatch.setattr(
        MaskedReconstruction, "training_step_at", lambda *arguments: (step(*arguments)[0] * float("nan"), {})
    )
    with pytest.raises(DivergedError, match=r"nan at step 0, objects drawn-\d\d\d, .*drawn-\d\d\d; look at"):
        pretrain(drawn_context())


def test_takes_fluxes_through_the_viewers_stretch(drawn_context: Make) -> None:
    result = pretrain(drawn_context("nanomaggy", max_steps=2))
    card, network = load_network(Path(result["model"]))
    assert card.inputs.bands == ("g", "r", "z")
    assert 0.02 < float(network.rgb_mean.mean()) < 0.9, "fluxes below 1 have become visible pictures"
    assert result["parameters"]["steps"] == "2"
    survey = card.training_data["survey_statistics"]
    assert set(survey["seeing_fwhm_arcsec"]) == {"g", "r", "z"} and survey["reddening"]["shape"] > 0
    other = pretrain(drawn_context("nanomaggy", max_steps=2, reobserve=0.0))
    assert other["weights_digest"] != result["weights_digest"]
    assert load_network(Path(other["model"]))[0].training_data["survey_statistics"] is None


def test_two_views_are_a_pretext_of_their_own(drawn_context: Make) -> None:
    """The decoder learns nothing, so that nothing is said of its pictures; the embedding has learnt to recognise."""
    context = drawn_context(pretexts={"views": 1.0}, epochs=4.0, learning_rate=3e-3)
    result = pretrain(replace(context, survey=context.survey.model_copy(update={"labels": []})))
    metrics = result["metrics"]
    assert not any("masked_l1" in name for name in metrics)
    assert metrics["drawn.view_match"] >= metrics["drawn.view_match_untrained"]
    assert result["headline"] == "drawn.view_match" and result["evaluation"]["higher_is_better"] is True
    scores = pd.read_parquet(result["evaluation"]["scores"])
    assert scores["score"].mean() == pytest.approx(metrics["drawn.view_match"])
    card, network = load_network(Path(result["model"]))
    assert card.training_data["pretexts"] == {"views": 1.0}
    assert not any("head" in name for name in network.state_dict()), "the projection is thrown away"


def test_answers_are_learnt_from_simulated_galaxies_and_told_of_the_surveys_own(drawn_context: Make) -> None:
    context = drawn_context(pretexts={"answers": 1.0}, simulated_pictures=64, epochs=3.0, learning_rate=3e-3)
    [table] = context.survey.labels
    known = {name: name for name in ("round", "cigar")}  # of a pair, volunteers say no such thing
    table = table.model_copy(update={"classes": known, "feeds": ["classification", "neighbours"]})
    survey = context.survey.model_copy(update={"labels": [table]})
    drawn: list[str] = []
    records: list[dict[str, float]] = []
    context = replace(
        context,
        survey=survey,
        progress=lambda done, total, note="": drawn.append(note),
        record=lambda step, metrics: records.append(dict(metrics)),
    )
    result = pretrain(context)
    assert drawn.count("drawing simulated galaxies") == 1
    assert {"told_drawn.png", "told_plain.png"} <= {Path(figure).name for figure in result["figures"]}
    assert 0 <= result["metrics"]["shape.told_auc"] <= 1
    assert records[-1]["answers_explained"] > records[0]["answers_explained"] + 0.5, "it has learnt to tell"
    card, network = load_network(Path(result["model"]))
    assert card.training_data["simulated_pictures"] == 64
    torch.manual_seed(step_seed(context.profile.pretrain.seed, -1))
    fresh = build_lvm("nano", tells_answers=True).state_dict()
    assert not torch.equal(network.state_dict()["answers.last.weight"], fresh["answers.last.weight"]), "it is kept"
    drawn.clear()
    assert pretrain(context)["weights_digest"] == result["weights_digest"]
    assert "drawing simulated galaxies" not in drawn, "they are drawn once"


def test_all_pretexts_with_normalised_patches_resume_like_any_training(drawn_context: Make) -> None:
    pretexts = {"masked": 1.0, "views": 0.2, "measures": 1.0, "answers": 1.0}
    changes = {"pretexts": pretexts, "simulated_pictures": 64, "normalise_target": True, "max_steps": 5}
    records: list[dict[str, float]] = []
    whole = pretrain(drawn_context(**changes, record=lambda step, metrics: records.append(dict(metrics))))
    told = {"masked_l1", "masked_loss", "views_loss", "measures_explained", "view_match", "view_spread"}
    assert told | {"answers_explained"} < set(records[-1])
    for source in ("drawn", "plain"):
        assert 0 < whole["metrics"][f"{source}.masked_l1"] < 0.5 < whole["metrics"][f"{source}.masked_l1_normalised"]
        assert 0 <= whole["metrics"][f"{source}.view_match"] <= 1
    context = drawn_context(**changes)

    def stop_there(done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        pretrain(replace(context, progress=stop_there))
    assert pretrain(context)["weights_digest"] == whole["weights_digest"]


def test_without_a_table_of_neighbours_the_reconstruction_is_the_headline(drawn_context: Make) -> None:
    context = drawn_context(max_steps=1)
    result = pretrain(replace(context, survey=context.survey.model_copy(update={"labels": []})))
    assert result["headline"] == "drawn.masked_l1" and result["evaluation"]["higher_is_better"] is False
    scores = pd.read_parquet(result["evaluation"]["scores"])
    assert scores["score"].mean() == pytest.approx(result["metrics"]["drawn.masked_l1"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crop": 64}, r"`crop` is 64 px.*stamps of 40 px; lower `crop`, to 40 at most"),
        ({"mask_patch": 6}, r"`mask_patch` is 6; it must be a multiple of 4 below crop / binning = 32"),
        ({"mask_patch": 32}, r"`mask_patch` is 32"),
        ({"mask_patch": 12, "normalise_target": True}, r"32 px must be a multiple of `mask_patch`, which is 12"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_any_work(
    drawn_context: Make, changes: dict[str, int], message: str
) -> None:
    context = drawn_context(**changes)
    with pytest.raises(GalaxyError, match=message):
        pretrain(context)
    assert list(context.folder.iterdir()) == []


def test_stamps_in_order_are_those_asked_for(prepared: PreparedDataset) -> None:
    rows = np.array([40, 3, 95, 4, 41])
    read = torch.cat(list(stamps_in_order(prepared, rows, 2))).numpy()
    assert (read == prepared.dataset.read_rows(rows)).all()
    assert list(stamps_in_order(prepared, rows[:0], 2)) == []


def test_a_sample_comes_from_the_rows_and_from_several_shards(prepared: PreparedDataset) -> None:
    rows = prepared.rows("train")
    sample = sample_stamps(prepared, rows, 12).numpy()
    everything = prepared.dataset.read_rows(rows)
    places = [int(np.flatnonzero((everything == stamp).all(axis=(1, 2, 3)))[0]) for stamp in sample]
    assert len(set(places)) == len(sample) >= 12
    assert len({rows[place] // 32 for place in places}) == 3


def test_evenly_keeps_ends_and_order() -> None:
    assert evenly(np.arange(100), 5).tolist() == [0, 24, 49, 74, 99]
    assert evenly(np.arange(3), 5).tolist() == [0, 1, 2]


def test_the_digest_of_an_evaluation_set_is_of_the_set_and_not_of_the_scores(tmp_path: Path) -> None:
    def digest(labels: list[str], scores: list[float]) -> str:
        frame = pd.DataFrame({"object_id": ["a", "b"], "label": labels, "score": scores})
        arguments = {"higher_is_better": True, "digest_columns": ("object_id", "label")}
        return str(write_evaluation(tmp_path, frame, "t.accuracy", **arguments)["digest"])

    assert digest(["x", "y"], [0.1, 0.2]) == digest(["x", "y"], [0.3, 0.4]) != digest(["x", "x"], [0.1, 0.2])
