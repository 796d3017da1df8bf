"""Fine-tuning learns, resumes to the same weights, keeps sources and splits apart, and says what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration, architecture
from galaxy_models.multitask import HeadScheme
from galaxy_models.predictor import load_predictor, save_model
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.train import finetune as stage
from tasks.train.finetune_batches import BatchDrawer, label_groups
from tasks.train.label_tables import LabelledStamps, labelled_stamps
from tasks.train.working_copy import make_working_copy

SIDE = 40
STEPS = 48
TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)


@dataclass
class FakeStamps:
    """The part of the stamp store that fine-tuning reads."""

    images: np.ndarray
    units: str
    bands: tuple[str, ...]
    digest: str = "stamps"
    reads: list[int] = field(default_factory=list)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        self.reads.append(len(rows))
        return self.images[rows]


@dataclass
class FakePrepared:
    """The part of the prepared dataset that fine-tuning reads."""

    dataset: FakeStamps
    table: pd.DataFrame
    digest: str = "prepared"

    def rows(self, split: str, source: str | None = None, usable: bool = True) -> np.ndarray:
        chosen = self.table["split"] == split
        if source is not None:
            chosen &= self.table["source"] == source
        return np.flatnonzero(chosen & (self.table["usable"] | (not usable)))


def ellipses(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3, SIDE, SIDE) in 0..1, half of them round and half flat, and their axis ratios."""
    generator = np.random.default_rng(seed)
    ratio = np.where(np.arange(count) % 2 == 0, generator.uniform(0.85, 1, count), generator.uniform(0.2, 0.35, count))
    angle = generator.uniform(0, np.pi, count)[:, None, None]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = 0.9 * np.exp(-0.5 * (along**2 + (across / ratio[:, None, None]) ** 2) / 5**2)
    images = light[:, None] * np.array([1.0, 0.8, 0.6])[:, None, None]
    return np.clip(images + generator.normal(0, 0.02, images.shape), 0, 1), ratio


def survey_of(units: str, **changes: Any) -> SurveyDefinition:
    source = {"kind": "images", "folder": "x", "catalogue": "y.csv", "survey_bands": "grz"}
    labels = [
        {"name": "shape", "source": "near", "kind": "classes", "column": "c", "classes": {"0": "round", "1": "flat"}},
        {"name": "asked", "source": "near", "kind": "votes", "questions": {"bar": {"yes": "a", "no": "b"}}},
        {"name": "size", "source": "far", "kind": "values", "values": {"axis_ratio": "q"}},
    ]
    feeds = ["classification", "votes", "parameters"]
    content: dict[str, Any] = {
        "name": "toy",
        "units": units,
        "bands": ["R", "G", "B"] if units == "rgb" else ["g", "r", "z"],
        "stamp_size": SIDE,
        "sources": [{**source, "name": "near"}, {**source, "name": "far"}],
        "labels": [{**label, "feeds": [feed]} for label, feed in zip(labels, feeds, strict=True)],
    }
    return SurveyDefinition.model_validate(content | changes)


def prepared_of(units: str, count: int = 320) -> FakePrepared:
    images, ratio = ellipses(count, seed=3)
    near = np.arange(count) < count // 2
    flat = np.arange(count) % 2 == 1
    table = pd.DataFrame(
        {
            "object_id": [f"toy-{i:04d}" for i in range(count)],
            "source": np.where(near, "near", "far"),
            "split": np.array(["train", "train", "validation", "test", "train"])[np.arange(count) // 2 % 5],
            "usable": True,
            "pixel_scale": 0.262,
            "label.shape": pd.Series(np.where(flat, "flat", "round"), dtype=object).where(near, None),
            "votes.asked.bar.yes": np.where(near, np.where(flat, 0.9, 0.1), np.nan).astype(np.float32),
            "votes.asked.bar.no": np.where(near, np.where(flat, 0.1, 0.9), np.nan).astype(np.float32),
            "value.size.axis_ratio": np.where(near, np.nan, ratio).astype(np.float32),
        }
    )
    stored = (255 * images).astype(np.uint8) if units == "rgb" else (0.3 * images).astype(np.float16)
    return FakePrepared(FakeStamps(stored, units, ("g", "r", "z")), table)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lvm")
    torch.manual_seed(0)
    lvm = GalaxyLVM(TINY)
    lvm.set_rgb_statistics(torch.full((3,), 0.1), torch.full((3,), 0.2))
    inputs = InputSpec(("g", "r", "z"), SIDE, 32, 1, (0.2, 0.3), True)
    save_model(folder, ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(lvm)}, inputs), lvm)
    return folder


def context_of(
    folder: Path, pretrained: Path, units: str = "rgb", progress: Any = silent, **settings: Any
) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "epochs": 100, "max_steps": STEPS, "batch_size": 16, "evaluate_steps": 8, "checkpoint_steps": 10,
        "learning_rate": 4e-3, "validation_stamps": 24, **settings,
    }  # fmt: skip
    return StageContext(
        survey=survey_of(units),
        profile=Profile(name="tiny", threads=1, finetune=FinetuneSettings(**chosen)),
        settings=Settings.from_environment(),
        folder=folder,
        upstream={
            "preprocess": {"prepared": "unused"},
            "pretrain": {"model": str(pretrained), "weights_digest": "0" * 64},
        },
        progress=progress,
        record=lambda step, metrics: None,
    )


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> FakePrepared:
    fake = prepared_of("rgb")
    monkeypatch.setattr(stage, "open_prepared", lambda context: fake)
    return fake


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> tuple[dict[str, Any], dict[int, Any]]:
    """Result of one whole run on pictures, and what it recorded."""
    recorded: dict[int, Any] = {}
    folder = tmp_path_factory.mktemp("whole")
    context = context_of(folder, pretrained)
    object.__setattr__(context, "record", lambda step, metrics: recorded.setdefault(step, {}).update(metrics))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "open_prepared", lambda _: prepared_of("rgb"))
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


@pytest.mark.parametrize("stop_at", [3, 7])
def test_with_photometry_a_killed_run_ends_the_same(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Before the first checkpoint and after it: what is learnt before the training is learnt again."""
    monkeypatch.setattr(stage, "open_prepared", lambda context: prepared_of("nanomaggy"))
    options: dict[str, Any] = {"max_steps": 12, "evaluate_steps": 5, "checkpoint_steps": 5}

    def stop(done: int, total: int, note: str = "") -> None:
        if total == 12 and done == stop_at:
            raise KeyboardInterrupt

    whole = stage.finetune(context_of(tmp_path / "whole", pretrained, "nanomaggy", **options))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.finetune(context_of(tmp_path / "cut", pretrained, "nanomaggy", progress=stop, **options))
    torch.set_num_threads(2)  # as after a start that skipped what is done before
    again = stage.finetune(context_of(tmp_path / "cut", pretrained, "nanomaggy", **options))
    assert again["weights_digest"] == whole["weights_digest"] and again["metrics"] == whole["metrics"]


def test_fluxes_are_degraded_as_fluxes(tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = prepared_of("nanomaggy")
    fake.table["psf_size_g"] = 1.3
    monkeypatch.setattr(stage, "open_prepared", lambda context: fake)
    context = context_of(tmp_path, pretrained, "nanomaggy", max_steps=3, evaluate_steps=3)
    result = stage.finetune(context)
    assert result["parameters"]["restoration_space"] == "flux"
    assert result["metrics"]["near.restoration.psnr_gain_db"] > 1, "the blur is known, and undone"
    predictor = load_predictor(Path(result["model"]))
    fluxes = fake.dataset.images[:2].astype(np.float32)
    restored = predictor.restore(fluxes, "nanomaggy", 0.262, seeing=[1.6, 1.5, 1.4], noise=[0.006, 0.006, 0.006])
    assert restored.shape == (2, 3, 32, 32)
    assert (restored.max(axis=(2, 3)) > fluxes[..., 4:-4, 4:-4].max(axis=(2, 3))).mean() > 0.5, "cores are sharper"


def test_parameters_of_fluxes_are_known_from_photometry_before_the_network_has_learnt_anything(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, coverage = {}, {}
    for units in ("nanomaggy", "rgb"):
        monkeypatch.setattr(stage, "open_prepared", lambda context, units=units: prepared_of(units))
        context = context_of(tmp_path / units, pretrained, units, max_steps=2, evaluate_steps=2, learning_rate=1e-5)
        metrics = stage.finetune(context)["metrics"]
        errors[units] = metrics["size.axis_ratio.rmse"] / metrics["size.axis_ratio.rmse_of_mean"]
        if units == "nanomaggy":
            errors["of pictures"] = (
                metrics["size.of_pictures.axis_ratio.rmse"] / metrics["size.of_pictures.axis_ratio.rmse_of_mean"]
            )
            coverage = {of: metrics[f"size{of}.axis_ratio.coverage"] for of in ("", ".of_pictures")}
    assert errors["nanomaggy"] < 0.4 < 0.9 < min(errors["rgb"], errors["of pictures"])
    assert all(0.4 < share < 0.95 for share in coverage.values()), "each answer's sigmas have a scale of their own"


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
    assert calibration["early"] == {"temperature": 1.0}
    assert calibration["size"] == {"sigma_scale": {"axis_ratio": 1.0}}
    assert result["headline"] == "shape.accuracy"
    assert len(pd.read_parquet(result["evaluation"]["scores"])) == result["metrics"]["shape.test_stamps"]


def test_classes_that_nothing_tests_are_refused_before_training(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared
) -> None:
    prepared.table.loc[prepared.table["split"] == "test", "label.shape"] = None
    with pytest.raises(GalaxyError, match=r"`test` .*\['shape'\].*label more"):
        stage.finetune(context_of(tmp_path, pretrained))
    assert list(tmp_path.iterdir()) == []


def test_without_classes_it_says_so(tmp_path: Path, pretrained: Path, prepared: FakePrepared) -> None:
    prepared.table["label.shape"] = None
    with pytest.raises(GalaxyError, match=r"classification.*\['shape'\]"):
        stage.finetune(context_of(tmp_path, pretrained))


def test_fixed_shares_that_name_no_task_are_refused(tmp_path: Path, pretrained: Path, prepared: FakePrepared) -> None:
    with pytest.raises(GalaxyError, match=r"\[finetune\].*restoration"):
        stage.finetune(context_of(tmp_path, pretrained, shares="fixed", fixed_shares={"classification": 1.0}))


def test_tables_take_no_guard_no_unusable_and_no_other_sources_stamps() -> None:
    fake = prepared_of("rgb")
    fake.table.loc[0, "split"] = "guard"
    fake.table.loc[1, "usable"] = False
    fake.table.loc[300, "label.shape"] = "round"
    shape, asked, size = labelled_stamps(survey_of("rgb"), fake.table)
    assert shape.rows.tolist() == asked.rows.tolist() == list(range(2, 160))
    assert size.rows.tolist() == list(range(160, 320))
    assert (shape.task, asked.task, size.task) == ("classification", "classification", "parameters")
    thin = shape.thinned(10)
    assert len(thin.positions("train")) == 10
    assert len(thin.positions("test")) == len(shape.positions("test"))


def test_rare_classes_come_more_often_and_votes_ride_along(tmp_path: Path) -> None:
    fake = prepared_of("rgb")
    train = np.flatnonzero((fake.table["split"] == "train") & (fake.table["source"] == "near"))
    rare = train[fake.table["label.shape"].to_numpy()[train] == "flat"][4:]
    fake.table.loc[rare, "label.shape"] = "round"
    tables = labelled_stamps(survey_of("rgb"), fake.table)
    copy = make_working_copy(tmp_path / "copy.npy", fake.dataset, np.arange(320), silent)
    as_they_are, balanced = (
        BatchDrawer(label_groups(tables, 20.0, balance), train, copy, 400, seed=1).draw(0, "classification")["targets"]
        for balance in (0.0, 1.0)
    )
    assert (as_they_are["shape"]["code"] == 1).float().mean() < 0.12
    assert (balanced["shape"]["code"] == 1).float().mean() == pytest.approx(0.5, abs=0.08)
    assert torch.isfinite(balanced["asked"]["bar"]).all()
    assert balanced["asked"]["bar.votes"].tolist() == [20.0] * 400


def test_votes_that_are_told_count_and_others_are_supposed(tmp_path: Path) -> None:
    fake = prepared_of("rgb")
    near = fake.table["source"] == "near"
    told = near & (np.arange(len(near)) % 3 == 0)
    fake.table["voters.asked.bar"] = np.where(told, 7.0, np.nan).astype(np.float32)
    survey = survey_of("rgb")
    asked = survey.labels[1].model_copy(update={"voters": {"bar": "n"}})
    survey = survey.model_copy(update={"labels": [survey.labels[0], asked]})
    (group,) = label_groups(labelled_stamps(survey, fake.table), 20.0, 0.0)
    assert group.targets["asked"]["bar.votes"].tolist() == np.where(told.to_numpy()[group.rows], 7.0, 20.0).tolist()


def test_sources_take_turns_by_the_root_of_their_size(tmp_path: Path) -> None:
    def table(name: str, source: str, rows: np.ndarray) -> LabelledStamps:
        scheme = HeadScheme(name, source, "classes", ("a", "b"))
        split = np.full(len(rows), "train")
        return LabelledStamps(scheme, rows, split, {"code": (rows % 2).astype(np.int64)})

    fake = prepared_of("rgb")
    copy = make_working_copy(tmp_path / "copy.npy", fake.dataset, np.arange(320), silent)
    tables = [table("large", "near", np.arange(180)), table("small", "far", np.arange(180, 200))]
    drawer = BatchDrawer(label_groups(tables, 20.0, 0.5), np.arange(320), copy, 4, seed=0)
    sources = [drawer.draw(step, "classification")["source"] for step in range(40)]
    assert sources.count("near") == 30
    assert set(sources[:4]) == {"near", "far"}
