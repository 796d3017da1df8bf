"""The lens finder's stage on drawn galaxies: what it returns, that it resumes, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import architecture, build_lvm
from galaxy_models.predictor import load_predictor, save_model
from infra.errors import GalaxyError
from infra.profile import FindLensesSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.labels import pack_mask
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.prepared import write_prepared
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.stamp import Stamp
from tasks.train.find_lenses import find_lenses
from tasks.train.lens_scenes import LensScenes, batches_from
from tasks.train.lens_tables import lens_tables

SIDE = 64
COUNT = 60
LENS_EVERY = 3
NOTHING = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))


def arc_of(number: int) -> np.ndarray:
    """(H, W): a half ring of 12 px radius, turned by number; nothing for most."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    ring = np.exp(-0.5 * ((np.hypot(x, y) - 12) / 1.5) ** 2)
    return np.where(np.cos(np.arctan2(y, x) - number) > 0, ring, 0.0) * (number % LENS_EVERY == 0)


def flux_of(number: int) -> np.ndarray:
    """(C, H, W) in nanomaggies: a red blob, a blue arc, two companions, noise."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    generator = np.random.default_rng(number)
    image = np.exp(-0.5 * (x**2 + y**2) / 3.0**2) * np.array([0.1, 0.3, 0.6])[:, None, None]
    image = image + arc_of(number) * np.array([0.08, 0.06, 0.06])[:, None, None]
    for colour in ([0.2, 0.15, 0.15], [0.05, 0.1, 0.2]):
        row, column = generator.uniform(-26, 26, 2)
        image = image + np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2) / 2) * np.array(colour)[:, None, None]
    return image + generator.normal(0, 1, image.shape) * np.array([0.003, 0.005, 0.01])[:, None, None]


def picture_of(number: int) -> np.ndarray:
    """(3, H, W) uint8."""
    display = np.arcsinh(flux_of(number)[::-1] * np.array([2.0, 3.0, 6.0])[:, None, None] * 10) / 3
    return np.clip(display * 255, 0, 255).astype(np.uint8)


def store(folder: Path, units: str, lenses: int = COUNT) -> tuple[Path, str]:
    """A prepared dataset of COUNT galaxies, of which the first `lenses` may be lenses; its folder and digest."""
    numbers = np.arange(COUNT)
    is_lens = (numbers % LENS_EVERY == 0) & (numbers < lenses)
    plan = pd.DataFrame(
        {
            "object_id": [f"drawn-{i:03d}" for i in numbers],
            "source": "drawn",
            "pixel_scale": 0.262,
            "mask.arc": [pack_mask(arc_of(i) > 0.3) if is_lens[i] else None for i in numbers],
            "grade.lens": np.where(is_lens, 3.0, np.where(numbers % LENS_EVERY == 0, 1.0, 0.3)).astype(np.float32),
            "label.kind": "smooth",
        }
    )
    bands = ("R", "G", "B") if units == "rgb" else ("g", "r", "z")
    draw = picture_of if units == "rgb" else lambda number: flux_of(number).astype(np.float16)
    layout = StampLayout(COUNT, bands, SIDE, units, shard_stamps=32, chunk_stamps=8)
    if units == "nanomaggy":
        plan = plan.assign(psf_size_g=1.3, psf_size_r=1.2, psf_size_z=1.1)
    counts = {"input": COUNT, "refused": 0}
    part = Part.create(folder / "dataset/parts/0000", layout, one_piece(plan), NOTHING, counts, {}, "drawn")
    for shard in part.pending():
        part.load(
            [shard], lambda rows: [Stamp(draw(int(name.removeprefix("drawn-"))), {}) for name in rows["object_id"]]
        )
    part.finalise(lambda merged: (merged, NOTHING))
    publish(folder / "dataset", ["parts/0000"])
    dataset = StampDataset.open(folder / "dataset")
    number = dataset.catalog["object_id"].str.removeprefix("drawn-").astype(int).to_numpy()
    own = pd.DataFrame(
        {
            "object_id": dataset.catalog["object_id"],
            "split": np.where(number % 10 >= 7, "test", "train"),
            "usable": True,
            "duplicate_group": number,
        }
    )
    prepared = write_prepared(folder / "prepared", dataset, own, {})
    return prepared.root, prepared.digest


def survey(units: str, tables: list[str]) -> SurveyDefinition:
    """The definition, with some of the three label tables."""
    known: dict[str, dict[str, Any]] = {
        "arc": {"kind": "truth_mask", "column": "arc"},
        "lens": {"kind": "grade", "column": "grade", "positive_from": 2.0, "negative_to": 0.3},
    }
    images = {"kind": "images", "folder": "unused", "catalogue": "unused", "survey_bands": "grz"}
    source = images if units == "rgb" else {"kind": "simulated", "count": COUNT}
    return SurveyDefinition.model_validate(
        {
            "name": "drawn",
            "units": units,
            "bands": ["R", "G", "B"] if units == "rgb" else ["g", "r", "z"],
            "stamp_size": SIDE,
            "sources": [{**source, "name": "drawn"}],
            "labels": [{**known[name], "name": name, "source": "drawn", "feeds": ["lens"]} for name in tables],
        }
    )


@pytest.fixture
def lens_context(tmp_path: Path) -> Callable[..., StageContext]:
    """Makes the context of a tiny training; `folder` names the stage's folder."""
    made: dict[tuple[str, int], tuple[Path, str]] = {}
    network = build_lvm("nano")
    inputs = InputSpec(("g", "r", "z"), SIDE, 64, 1, (0.2, 0.3), False)
    save_model(tmp_path / "lvm", ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(network)}, inputs), network)

    def make(
        units: str, tables: list[str], folder: str = "stage", lenses: int = COUNT, progress: Any = silent
    ) -> StageContext:
        if (units, lenses) not in made:
            made[units, lenses] = store(tmp_path / f"{units}-{lenses}", units, lenses)
        prepared, digest = made[units, lenses]
        numbers = {"crop": 64, "batch_size": 4, "steps": 4, "checkpoint_steps": 2, "proposals": 8}
        settings = FindLensesSettings(**numbers, simulated_lenses=10, test_scenes=6)
        (tmp_path / folder).mkdir(exist_ok=True)
        return StageContext(
            survey=survey(units, tables),
            profile=Profile(name="tiny", threads=1, find_lenses=settings),
            settings=Settings(home=tmp_path, sky=tmp_path / "no-sky", mlflow_uri="sqlite:///unused.db"),
            folder=tmp_path / folder,
            upstream={
                "preprocess": {"prepared": str(prepared), "digest": digest},
                "pretrain": {"model": str(tmp_path / "lvm")},
            },
            progress=progress,
            record=lambda step, metrics: None,
        )

    return make


def test_fluxes_with_known_arcs(lens_context: Callable[..., StageContext]) -> None:
    result = find_lenses(lens_context("nanomaggy", ["arc", "lens"]))
    assert result["headline"] == "arc.auc" and 0 <= result["metrics"]["arc.auc"] <= 1
    for table in ("arc", "lens"):
        found = result["metrics"]
        assert found[f"{table}.test_lenses"] == 6 and found[f"{table}.test_others"] == 12
        assert found[f"{table}.auc_low"] <= found[f"{table}.auc"] <= found[f"{table}.auc_high"]
        assert {f"{table}.background_only_auc", f"{table}.purity_at_10", f"{table}.simulated.box_ap50"} <= set(found)
        assert f"{table}.purity_at_20" not in found  # the list is shorter than that
    assert all(Path(figure).stat().st_size > 1000 for figure in result["figures"])
    scores = pd.read_parquet(result["evaluation"]["scores"])
    assert len(scores) == 18 and scores["positive"].sum() == 6 and set(scores["label"]) == {"lens", "no_lens"}
    predictor = load_predictor(Path(result["model"]))
    stamps = np.stack([flux_of(i) for i in range(3)]).astype(np.float32)
    assert predictor.predict(stamps, "nanomaggy", 0.262)["lens_score"].shape == (3,)


def test_killed_training_ends_with_the_same_weights(lens_context: Callable[..., StageContext]) -> None:
    whole = find_lenses(lens_context("rgb", ["lens"], "whole"))

    def dies(done: int, total: int, note: str = "") -> None:
        if done == 3 and note.startswith("loss"):
            raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        find_lenses(lens_context("rgb", ["lens"], "killed", progress=dies))
    resumed = find_lenses(lens_context("rgb", ["lens"], "killed"))
    assert resumed["weights_digest"] == whole["weights_digest"]
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["evaluation"]["digest"] == whole["evaluation"]["digest"]


def scenes_of(context: StageContext) -> LensScenes:
    from tasks.train.common import input_spec, open_prepared

    prepared = open_prepared(context)
    (table,) = lens_tables(context.survey, prepared.table, SIDE)
    inputs = input_spec(context.survey, prepared.table, table.rows, 64, 1)
    lenses, others = (
        (rows, prepared.dataset.read_rows(rows)) for rows in (table.chosen("train", True), table.chosen("train", False))
    )
    return LensScenes(table, inputs, prepared.dataset.units, lenses, others, arcs=5, seed=0)


def test_a_batch_is_a_function_of_its_step_and_half_of_it_lenses(lens_context: Callable[..., StageContext]) -> None:
    scenes = scenes_of(lens_context("rgb", ["lens"]))
    from_start = batches_from([scenes], 6, 1, 0)
    _, second = next(from_start), next(from_start)
    again = next(batches_from([scenes], 6, 1, 1))
    for name, values in second.items():
        assert (values == again[name]).all(), name
    assert second["lens"].tolist() == [True] * 3 + [False] * 3
    assert not second["masks"][3:].any()  # others have no arc
    injected = second["lens"] & second["boxed"]
    assert second["masks"][injected].flatten(1).any(dim=1).all()


def test_graded_lenses_have_no_boxes_and_truth_masks_do(lens_context: Callable[..., StageContext]) -> None:
    graded = scenes_of(lens_context("rgb", ["lens"])).real(0)
    assert graded.lens and not graded.boxed and not graded.mask.any()
    known = scenes_of(lens_context("nanomaggy", ["arc"]))
    scene = known.real(0)
    name = int(known.lens_rows[0])
    assert scene.boxed and scene.mask.any() and name % LENS_EVERY == 0
    np.testing.assert_array_equal(scene.mask, arc_of(name) > 0.3)


def test_grades_in_between_are_used_nowhere(lens_context: Callable[..., StageContext]) -> None:
    context = lens_context("rgb", ["lens"], lenses=40)
    (table,) = lens_tables(context.survey, _prepared_table(context), SIDE)
    in_between = {number for number in range(COUNT) if number % LENS_EVERY == 0 and number >= 40}
    assert in_between and not in_between & set(table.rows.tolist())
    assert table.lens.sum() == 14


def _prepared_table(context: StageContext) -> pd.DataFrame:
    from tasks.train.common import open_prepared

    return open_prepared(context).table


def test_surveys_that_cannot_teach_lenses_are_refused(lens_context: Callable[..., StageContext]) -> None:
    context = lens_context("rgb", ["lens"])
    with pytest.raises(GalaxyError, match="no label table feeds `lens`"):
        find_lenses(dataclasses.replace(context, survey=survey("rgb", [])))
    with pytest.raises(GalaxyError, match="only 1 lenses"):
        find_lenses(lens_context("rgb", ["lens"], lenses=1))
