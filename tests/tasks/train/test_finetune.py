"""Fine-tuning learns, resumes to the same weights, keeps sources and splits apart, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.predictor import load_predictor
from galaxy_models.training import BatchTooLargeError
from infra.errors import GalaxyError
from tasks.ingest.survey import SurveyDefinition
from tasks.track.scores import score
from tasks.train import finetune as stage
from tasks.train import finetune_network
from tasks.train.finetune_objective import MultiTaskObjective
from tests.doubles.labelled_ellipses import STEPS, FakePrepared, context_of, prepared_of, survey_of


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> FakePrepared:
    fake = prepared_of("rgb")
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: fake)
    return fake


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> tuple[dict[str, Any], dict[int, Any]]:
    """Result of one whole run on pictures, and what it recorded."""
    recorded: dict[int, Any] = {}
    folder = tmp_path_factory.mktemp("whole")
    context = context_of(folder, pretrained)
    object.__setattr__(context, "record", lambda step, metrics: recorded.setdefault(step, {}).update(metrics))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_network, "open_prepared", lambda _: prepared_of("rgb"))
        return stage.finetune(context), recorded


def test_it_learns_what_the_labels_teach(undisturbed) -> None:
    metrics = undisturbed[0]["metrics"]
    assert metrics["shape.accuracy"] > 0.85
    assert metrics["shape.accuracy.low"] <= metrics["shape.accuracy"] <= metrics["shape.accuracy.high"]
    assert metrics["asked.rmse"] < 0.8 * metrics["asked.rmse_of_mean"]
    assert metrics["size.axis_ratio.rmse"] < 0.8 * metrics["size.axis_ratio.rmse_of_mean"]
    assert metrics["restoration.psnr_db"] > metrics["restoration.psnr_degraded_db"]


def test_metrics_carry_table_or_source_and_none_pools(undisturbed) -> None:
    result = undisturbed[0]
    assert result["headline"] == result["evaluation"]["metric"] == "shape.accuracy"
    short = {"restoration", "reconstruction"}
    assert {name.split(".")[0] for name in result["metrics"]} == {"shape", "asked", "size", "near", "far"} | short
    for name in ("restoration.psnr_gain_db", "reconstruction.l1"):
        assert result["metrics"][name] == result["metrics"][f"near.{name}"], "short names mean the first table's source"


def test_the_result_is_what_other_stages_read(undisturbed) -> None:
    result = undisturbed[0]
    assert all(Path(path).stat().st_size > 1000 for path in result["figures"])
    names = {Path(path).stem for path in result["figures"]}
    assert {"confusion_shape", "shares", "deficits", "validation", "reliability", "parameters_size"} <= names
    assert {"restored_near", "rebuilt_far", "coverage_asked", "coverage_size"} <= names
    predictor = load_predictor(Path(result["model"]))
    assert predictor.card.calibration["shape"]["temperature"] > 0
    assert predictor.card.metrics["shape.accuracy"] == result["metrics"]["shape.accuracy"]
    assert all(isinstance(value, str) for value in result["parameters"].values())
    assert result["parameters"]["restoration_space"] == "display"
    assert not list(Path(result["model"]).parent.glob("working-copy*")), "the copy of the pixels is not kept"


def test_the_card_says_how_honest_the_model_is_before_and_after_calibration(undisturbed) -> None:
    metrics = load_predictor(Path(undisturbed[0]["model"])).card.metrics
    for name in ("shape.calibration_error", "asked.coverage", "size.axis_ratio.coverage"):
        assert 0 <= metrics[name] <= 1 and 0 <= metrics[f"{name}.uncalibrated"] <= 1
    for name in ("asked", "size.axis_ratio"):
        assert metrics[f"{name}.coverage"] <= metrics[f"{name}.coverage_95"]


def test_the_model_answers_on_the_evaluation_set_as_its_scores_say(undisturbed) -> None:
    result = undisturbed[0]
    scores = pd.read_parquet(result["evaluation"]["scores"])
    fake = prepared_of("rgb")
    rows = scores["object_id"].map({name: row for row, name in enumerate(fake.table["object_id"])}).to_numpy()
    assert (fake.table["split"].to_numpy()[rows] == "test").all()
    images = fake.dataset.images[rows].astype(np.float32) / 255
    columns = load_predictor(Path(result["model"])).predict(images, "rgb", 0.262)
    guess = np.where(columns["p_flat"] > columns["p_round"], "flat", "round")
    assert ((guess == scores["label"]) == scores["score"].astype(bool)).all()
    assert scores["score"].mean() == pytest.approx(result["metrics"]["shape.accuracy"])


def test_shares_are_recorded_over_time_and_sum_to_one(undisturbed) -> None:
    tasks = ("classification", "parameters", "restoration", "reconstruction")
    points = [metrics for metrics in undisturbed[1].values() if "share.classification" in metrics]
    assert len(points) == STEPS // 8
    for point in points:
        assert sum(point[f"share.{task}"] for task in tasks) == pytest.approx(1)
    assert len({point["share.restoration"] for point in points}) > 1


@pytest.mark.parametrize("stop_at", [17, 40])
def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared, undisturbed, stop_at: int
) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if total == STEPS and done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.finetune(context_of(tmp_path, pretrained, progress=stop))
    again = stage.finetune(context_of(tmp_path, pretrained))
    assert again["weights_digest"] == undisturbed[0]["weights_digest"]
    assert again["metrics"] == undisturbed[0]["metrics"]
    assert again["evaluation"]["digest"] == undisturbed[0]["evaluation"]["digest"]


def test_with_average_accumulation_and_layer_decay_a_killed_run_ends_the_same(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared
) -> None:
    """Turns and shares of the tasks are drawn batch by batch, and validation sees the averaged weights."""
    options = {"accumulate": 2, "ema_decay": 0.9, "layer_decay": 0.7, "max_steps": 12, "evaluate_steps": 5}

    def stop(done: int, total: int, note: str = "") -> None:
        if total == 12 and done == 7:
            raise KeyboardInterrupt

    whole = stage.finetune(context_of(tmp_path / "whole", pretrained, **options))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.finetune(context_of(tmp_path / "cut", pretrained, progress=stop, **options))
    again = stage.finetune(context_of(tmp_path / "cut", pretrained, **options))
    assert again["weights_digest"] == whole["weights_digest"] and again["metrics"] == whole["metrics"]


def test_where_memory_ends_at_a_batch_of_images_the_batch_size_is_the_profiles(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of images have half of its stamps."""

    restore = MultiTaskObjective._restoration

    def in_little_memory(
        objective: MultiTaskObjective, batch: dict[str, Any], generator: torch.Generator
    ) -> torch.Tensor:
        if len(batch["images"]) > 4:
            raise torch.OutOfMemoryError("no memory is left")
        return restore(objective, batch, generator)

    monkeypatch.setattr(MultiTaskObjective, "_restoration", in_little_memory)
    with pytest.raises(
        BatchTooLargeError, match=r"a batch of 8 stamps .*4 fit.* `batch_size = 8` and `accumulate = 2`, which keeps"
    ):
        stage.finetune(context_of(tmp_path, pretrained))


@pytest.mark.parametrize("place", [0, 1])
def test_a_table_without_validation_or_test_stamps_trains_uncalibrated_and_gives_no_headline(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared, place: int
) -> None:
    prepared.table["label.early"] = prepared.table["label.shape"].where(prepared.table["split"] == "train", None)
    context = context_of(tmp_path, pretrained, max_steps=3, evaluate_steps=3)
    content = survey_of("rgb").model_dump()
    content["labels"].insert(place, {**content["labels"][0], "name": "early"})
    object.__setattr__(context, "survey", SurveyDefinition.model_validate(content))
    prepared.table.loc[(prepared.table["source"] == "far") & (prepared.table["split"] == "validation"), "split"] = (
        "test"
    )
    result = stage.finetune(context)
    calibration = load_predictor(Path(result["model"])).card.calibration
    assert calibration["early"] == {"temperature": 1.0, "validation_stamps": 0}
    assert calibration["size"] == {"sigma_scale": {"axis_ratio": 1.0}, "validation_stamps": 0}
    assert calibration["shape"]["validation_stamps"] == 32
    assert result["headline"] == "shape.accuracy"
    assert len(pd.read_parquet(result["evaluation"]["scores"])) == result["metrics"]["shape.test_stamps"]


@pytest.mark.parametrize(("kind", "headline"), [("votes", "asked.fraction_error"), ("values", "size.scaled_error")])
def test_without_classes_it_is_judged_by_the_error_of_votes_or_parameters(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared, kind: str, headline: str
) -> None:
    context = context_of(tmp_path, pretrained)
    labels = [label for label in survey_of("rgb").labels if label.kind == kind]
    object.__setattr__(context, "survey", context.survey.model_copy(update={"labels": labels}))
    result = stage.finetune(context)
    evaluation = result["evaluation"]
    assert result["headline"] == evaluation["metric"] == headline and not evaluation["higher_is_better"]
    table = pd.read_parquet(evaluation["scores"])
    assert table["score"].mean() == pytest.approx(result["metrics"][headline])
    truth = table[[name for name in table if name.startswith("truth.")]]
    of_mean = ((truth - truth.mean()) / (truth.std(ddof=0) if kind == "values" else 1)).abs().mean().mean()
    assert result["metrics"][headline] < 0.6 * of_mean, "it has learnt something"
    rows = prepared.table.set_index("object_id").index.get_indexer(table["object_id"])
    columns = load_predictor(Path(result["model"])).predict(
        prepared.dataset.images[rows] / np.float32(255), "rgb", 0.262
    )
    again = score(columns, table.drop(columns="score"), headline)
    np.testing.assert_allclose(again, table["score"], atol=1e-3)


def test_labels_that_nothing_tests_are_refused_before_training(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared
) -> None:
    prepared.table.loc[prepared.table["split"] == "test", "split"] = "guard"
    with pytest.raises(GalaxyError, match=r"`test` .*'shape', 'asked', 'size'.*label more"):
        stage.finetune(context_of(tmp_path, pretrained))
    assert list(tmp_path.iterdir()) == []


def test_without_any_label_it_says_so(tmp_path: Path, pretrained: Path, prepared: FakePrepared) -> None:
    prepared.table["label.shape"] = None
    prepared.table[["votes.asked.bar.yes", "votes.asked.bar.no", "value.size.axis_ratio"]] = np.nan
    with pytest.raises(GalaxyError, match=r"classification, votes or parameters.*'shape', 'asked', 'size'"):
        stage.finetune(context_of(tmp_path, pretrained))


def test_fixed_shares_that_name_no_task_are_refused(tmp_path: Path, pretrained: Path, prepared: FakePrepared) -> None:
    with pytest.raises(GalaxyError, match=r"\[finetune\].*restoration"):
        stage.finetune(context_of(tmp_path, pretrained, shares="fixed", fixed_shares={"classification": 1.0}))
