"""GalaxAlign's stage: it learns, resumes to the same weights, keeps tables apart, and says what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models import align_objective
from galaxy_models.align import GalaxAlign
from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration, architecture
from galaxy_models.predictor import load_predictor, save_model
from galaxy_models.symbols import canonical_classes
from infra.errors import GalaxyError
from infra.locate import shipped
from infra.profile import AlignSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.labels import class_names
from tasks.ingest.survey import SurveyDefinition, load_survey
from tasks.stage import StageContext
from tasks.train import align as stage
from tasks.train.align_scores import macro_f1, nearest_others, similarity_metrics
from tasks.train.align_tables import ClassTable, TableBatches, class_tables
from tasks.train.working_copy import make_working_copy
from tests.doubles.labelled_ellipses import FakePrepared, FakeStamps

SIDE = 40
STAGE_1, STAGE_2 = 12, 36
TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)
CLASSES = ("round_smooth", "cigar_smooth")
GUIDE = ("guide_round", "guide_cigar", "guide_ring")


def prepared_of(count: int = 200, guides: int = 9) -> FakePrepared:
    """Round and flat ellipses: `count` of the source `near`, and a few of the source `guide`."""
    total = count + guides
    generator = np.random.default_rng(3)
    flat = np.arange(total) % 2 == 1
    ratio = np.where(flat, generator.uniform(0.15, 0.25, total), generator.uniform(0.9, 1, total))
    angle = generator.uniform(0, np.pi, total)[:, None, None]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = np.exp(-0.5 * (along**2 + (across / ratio[:, None, None]) ** 2) / 6**2)
    images = np.clip(light[:, None] * 230 + generator.normal(0, 4, (total, 3, SIDE, SIDE)), 0, 255).astype(np.uint8)
    near = np.arange(total) < count
    table = pd.DataFrame(
        {
            "object_id": [f"toy-{i:04d}" for i in range(total)],
            "source": np.where(near, "near", "guide"),
            "split": np.array(["train", "train", "validation", "test", "train"])[np.arange(total) // 2 % 5],
            "usable": True,
            "label.shape": pd.Series(np.array(CLASSES)[flat.astype(int)], dtype=object).where(near, None),
            "label.guide": pd.Series(np.array(GUIDE)[np.arange(total) % 3], dtype=object).where(~near, None),
        }
    )
    return FakePrepared(FakeStamps(images, "rgb", ("R", "G", "B")), table)


def survey_of(classes: tuple[str, ...] = CLASSES) -> SurveyDefinition:
    source = {"kind": "images", "folder": "x", "catalogue": "y.csv", "survey_bands": "grz"}
    label = {"kind": "classes", "column": "c", "feeds": ["align"]}
    return SurveyDefinition.model_validate(
        {
            "name": "toy",
            "units": "rgb",
            "bands": ["R", "G", "B"],
            "stamp_size": SIDE,
            "sources": [{**source, "name": "near"}, {**source, "name": "guide"}],
            "labels": [
                {**label, "name": "guide", "source": "guide", "classes": {name: name for name in GUIDE}},
                {**label, "name": "shape", "source": "near", "classes": {name: name for name in classes}},
            ],
        }
    )


@pytest.fixture(scope="module", autouse=True)
def few_classes() -> Iterator[None]:
    """Symbols and texts of a few classes only are drawn together: the others cost time and add nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align_objective, "known_symbols", lambda: [*CLASSES, "ring", "spiral"])
        yield


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lvm")
    torch.manual_seed(0)
    lvm = GalaxyLVM(TINY)
    lvm.set_rgb_statistics(torch.full((3,), 0.15), torch.full((3,), 0.25))
    inputs = InputSpec(("g", "r", "z"), SIDE, 32, 1, (0.2, 0.3), True)
    save_model(folder, ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(lvm)}, inputs), lvm)
    return folder


def context_of(
    folder: Path, pretrained: Path, progress: Any = silent, record: Any = None, **settings: Any
) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "stage1_steps": STAGE_1, "epochs": 100, "max_steps": STAGE_2, "batch_size": 16, "checkpoint_steps": 10,
        "learning_rate": 4e-3, "image_rate": 1.0, "embedding_size": 16, **settings,
    }  # fmt: skip
    return StageContext(
        survey=survey_of(),
        profile=Profile(name="tiny", threads=1, align=AlignSettings(**chosen)),
        settings=Settings.from_environment(),
        folder=folder,
        upstream={
            "preprocess": {"prepared": "unused"},
            "pretrain": {"model": str(pretrained), "weights_digest": "0" * 64},
        },
        progress=progress,
        record=record or (lambda step, metrics: None),
    )


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> FakePrepared:
    fake = prepared_of()
    monkeypatch.setattr(stage, "open_prepared", lambda context: fake)
    return fake


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> tuple[dict[str, Any], dict[int, Any]]:
    """Result of one whole run, and what it recorded."""
    recorded: dict[int, Any] = {}
    context = context_of(
        tmp_path_factory.mktemp("whole"),
        pretrained,
        record=lambda step, metrics: recorded.setdefault(step, {}).update(metrics),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "open_prepared", lambda _: prepared_of())
        return stage.align(context), recorded


def test_it_learns_what_the_labels_teach(undisturbed) -> None:
    metrics = undisturbed[0]["metrics"]
    for name in ("accuracy", "text_accuracy", "symbol_accuracy"):
        assert metrics[f"shape.{name}"] > 0.85, name
    assert metrics["shape.accuracy.low"] <= metrics["shape.accuracy"] <= metrics["shape.accuracy.high"]
    assert metrics["shape.similarity_map"] > metrics["shape.similarity_chance"] + 0.2
    assert metrics["shape.test_stamps"] == 40


def test_a_table_with_few_stamps_tests_words_and_symbols_and_teaches_nothing(undisturbed) -> None:
    result = undisturbed[0]
    assert result["headline"] == result["evaluation"]["metric"] == "shape.accuracy"  # though `guide` comes first
    guide = {name for name in result["metrics"] if name.startswith("guide.")}
    assert guide == {f"guide.{kind}_map" for kind in ("symbol_retrieval", "text_retrieval", "retrieval_chance")} | {
        "guide.stamps",
        "guide.classes",
    }
    assert result["metrics"]["guide.stamps"] == 9
    assert result["parameters"]["tables"] == "shape"
    assert result["parameters"]["tables_tested_only"] == "guide"
    assert load_predictor(Path(result["model"])).card.training_data["stamps"] == {"shape": 120}


def test_the_result_is_what_other_stages_read(undisturbed) -> None:
    result = undisturbed[0]
    assert all(Path(path).stat().st_size > 1000 for path in result["figures"])
    names = {Path(path).stem for path in result["figures"]}
    assert names == {"symbols", "confusion_shape", "neighbours_shape", "retrieval_shape", "retrieval_guide"}
    card = load_predictor(Path(result["model"])).card
    assert card.metrics == result["metrics"]
    assert card.labels["shape"]["symbols"] == list(CLASSES)
    assert 0 <= card.calibration["shape"]["text_share"] <= 1
    assert all(isinstance(value, str) for value in result["parameters"].values())
    assert not list(Path(result["model"]).parent.glob("working-copy*")), "the copy of the pixels is not kept"


def test_the_model_answers_on_the_evaluation_set_as_its_scores_say(undisturbed) -> None:
    result = undisturbed[0]
    scores = pd.read_parquet(result["evaluation"]["scores"])
    fake = prepared_of()
    rows = scores["object_id"].map({name: row for row, name in enumerate(fake.table["object_id"])}).to_numpy()
    assert (fake.table["split"].to_numpy()[rows] == "test").all()
    images = fake.dataset.images[rows].astype(np.float32) / 255
    columns = load_predictor(Path(result["model"])).predict(images, "rgb", 0.262)
    probabilities = np.stack([columns[f"p_{name}"] for name in CLASSES], axis=1)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    right = np.array(CLASSES)[probabilities.argmax(axis=1)] == scores["label"]
    assert (right == scores["score"].astype(bool)).all()
    assert scores["score"].mean() == pytest.approx(result["metrics"]["shape.accuracy"])


def test_both_stages_are_recorded_one_after_the_other(undisturbed) -> None:
    recorded = undisturbed[1]
    first = {step for step, metrics in recorded.items() if "stage1.loss" in metrics}
    second = {step for step, metrics in recorded.items() if "stage2.image_symbol" in metrics}
    assert max(first) == STAGE_1 - 1 < min(second)
    assert max(second) == STAGE_1 + STAGE_2 - 1


def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path, pretrained: Path, prepared: FakePrepared, undisturbed
) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done == STAGE_1 + 13 and total == STAGE_1 + STAGE_2:  # in stage 2, between two checkpoints
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.align(context_of(tmp_path, pretrained, progress=stop))
    again = stage.align(context_of(tmp_path, pretrained))
    assert again["weights_digest"] == undisturbed[0]["weights_digest"]
    assert again["metrics"] == undisturbed[0]["metrics"]
    assert again["evaluation"]["digest"] == undisturbed[0]["evaluation"]["digest"]


def test_a_batch_is_of_one_table_and_of_train_stamps_and_depends_on_its_step(tmp_path: Path) -> None:
    fake = prepared_of()
    tables = class_tables(survey_of(), fake.table, minimum=0)
    assert all(table.trained for table in tables)
    copy = make_working_copy(tmp_path / "copy.npy", fake.dataset, np.concatenate([t.rows for t in tables]), silent)
    batches = TableBatches(tables, copy, 8, seed=5)
    seen = set()
    for step, batch in zip(range(30), batches.batches_from(0), strict=False):
        rows = batch["rows"].numpy()
        assert set(fake.table["source"].to_numpy()[rows]) == {"near" if batch["table"] == "shape" else "guide"}
        assert set(fake.table["split"].to_numpy()[rows]) == {"train"}
        seen.add(batch["table"])
        again = next(batches.batches_from(step))
        assert torch.equal(again["images"], batch["images"]) and torch.equal(again["classes"], batch["classes"])
    assert seen == {"shape", "guide"}


def test_tables_take_no_guard_no_unusable_and_no_other_sources_stamps() -> None:
    fake = prepared_of()
    fake.table.loc[0, "split"] = "guard"
    fake.table.loc[1, "usable"] = False
    fake.table.loc[203, "label.shape"] = "round_smooth"  # a label on a stamp of the other source
    guide, shape = class_tables(survey_of(), fake.table, minimum=5)
    assert shape.rows.tolist() == list(range(2, 200))
    assert guide.meanings == ["round_smooth", "cigar_smooth", "ring"]
    assert (shape.trained, guide.trained) == (True, False)
    thin = shape.thinned(10)
    assert len(thin.places("train")) == 10
    assert len(thin.places("test")) == len(shape.places("test"))


def test_a_small_survey_still_trains_on_its_best_table() -> None:
    guide, shape = class_tables(survey_of(), prepared_of(20).table, minimum=1000)
    assert (shape.trained, guide.trained) == (True, False)


def test_the_mixture_takes_the_modality_that_validation_trusts(tmp_path: Path) -> None:
    fake = prepared_of()
    shape = class_tables(survey_of(), fake.table, minimum=5)[1]
    torch.manual_seed(0)
    network = stage._network(AlignSettings(embedding_size=8), GalaxyLVM(TINY), [shape])
    codes = torch.from_numpy(shape.codes[shape.places("validation")])
    codes = torch.where(torch.arange(len(codes)) % 7 == 0, 1 - codes, codes)  # some are mistaken for the other
    embedding = torch.eye(8)[codes]
    embedding[:, 2:4] = torch.randn(len(codes), 2, generator=torch.Generator().manual_seed(0))
    network.symbol_prototypes.copy_(torch.eye(8)[[0, 1]])
    network.text_prototypes.copy_(torch.eye(8)[[2, 3]])  # words answer at random
    trusted = stage.choose_mixture(network, shape, embedding)["text_share"]
    network.text_prototypes, network.symbol_prototypes = network.symbol_prototypes, network.text_prototypes
    assert trusted < 0.25
    assert stage.choose_mixture(network, shape, embedding)["text_share"] > 0.75
    assert float(network.text_share[0]) > 0.75


def test_similarity_search_is_perfect_for_separate_classes_and_chance_for_none() -> None:
    codes = np.repeat([0, 1], 20)
    split = np.full(40, "test")
    table = ClassTable("t", "s", ["a", "b"], ["ring", "bar"], np.arange(40), codes, split)
    perfect = similarity_metrics(table, torch.eye(2)[torch.from_numpy(codes)])
    assert perfect["t.similarity_map"] == perfect["t.similarity_precision_at_10"] == 1
    assert perfect["t.similarity_chance"] == pytest.approx(19 / 39)
    same = similarity_metrics(table, torch.ones(40, 2))
    assert same["t.similarity_map"] == pytest.approx(19 / 39)
    assert 3 not in nearest_others(torch.eye(2)[torch.from_numpy(codes)], 3, 39)


def test_macro_f1_by_hand() -> None:
    # class 0: precision 1/2, recall 1; class 1: precision 1, recall 2/3; class 2 is never predicted
    assert macro_f1([0, 1, 1, 1, 2], [0, 1, 1, 0, 1]) == pytest.approx(np.mean([2 / 3, 2 * 2 / 6, 0]))


@pytest.mark.parametrize("name", shipped("surveys"))
def test_every_class_that_a_shipped_survey_aligns_has_a_symbol(name: str) -> None:
    for table in load_survey(name).tables("align"):
        if table.kind == "classes":
            assert len(canonical_classes(class_names(table))) == len(class_names(table))


def test_a_class_without_a_symbol_is_refused_with_the_known_ones() -> None:
    fake = prepared_of()
    fake.table["label.shape"] = fake.table["label.shape"].replace("cigar_smooth", "green_pea")
    with pytest.raises(GalaxyError, match=r"label table shape: .*'green_pea'.*irregular.*`feeds`"):
        class_tables(survey_of(("round_smooth", "green_pea")), fake.table, minimum=5)


def test_without_two_classes_or_test_stamps_it_says_so() -> None:
    fake = prepared_of()
    without_test = fake.table[fake.table["split"] != "test"].reset_index(drop=True)
    with pytest.raises(GalaxyError, match="shape has no usable test stamp"):
        class_tables(survey_of(), without_test, minimum=5)
    fake.table["label.shape"] = fake.table["label.guide"] = None
    with pytest.raises(GalaxyError, match=r"two classes.*\['guide', 'shape'\]"):
        class_tables(survey_of(), fake.table, minimum=5)


def test_an_image_tower_that_is_not_there_is_refused(tmp_path: Path, pretrained: Path, prepared: FakePrepared) -> None:
    with pytest.raises(GalaxyError, match=r"\[align\].*'ViT-B-32'.*never downloaded"):
        stage.align(context_of(tmp_path, pretrained, image_tower="ViT-B-32"))


def test_the_network_before_training_depends_on_the_seed_alone(pretrained: Path) -> None:
    shape = class_tables(survey_of(), prepared_of().table, minimum=5)[1]

    def start(seed: int, disturb: int) -> GalaxAlign:
        torch.manual_seed(disturb)
        lvm = GalaxyLVM(TINY)
        lvm.load_state_dict(load_predictor(pretrained).network.state_dict())
        return stage._network(AlignSettings(seed=seed, embedding_size=8), lvm, [shape])

    first, same, other = start(0, 1), start(0, 2), start(1, 1)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.image_projection.weight, other.image_projection.weight)
