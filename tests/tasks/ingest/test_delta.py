"""A newer catalogue: only what is new or changed is read, what is gone is retired, the older dataset stays."""

from __future__ import annotations

import dataclasses
import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from infra.errors import GalaxyError
from tasks.ingest.bricks import Bricks
from tasks.ingest.images import ImageFolder
from tasks.ingest.ingest import ingest
from tasks.stamps.dataset import StampDataset
from tests.doubles.brick_survey import Sky


def run(survey: Any, name: str) -> dict[str, Any]:
    """The stage as `run_stage` leaves it: with its result in its folder."""
    context = survey.context(f"small/ingest-{name}")
    result = ingest(context)
    (context.folder / "result.json").write_text(json.dumps(result))
    return result


def content(dataset: StampDataset) -> pd.DataFrame:
    """The catalogue by object, with the sum of each stamp's pixels."""
    pixels = np.concatenate([dataset.read_shard(i) for i in range(len(dataset.shards))])
    return (
        dataset.catalog.assign(pixels=pixels.astype(np.float64).sum(axis=(1, 2, 3))).set_index("object_id").sort_index()
    )


@pytest.fixture
def read_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were read."""
    names: list[str] = []
    original = ImageFolder._read

    def note(self: ImageFolder, name: str) -> Any:
        names.append(name)
        return original(self, name)

    monkeypatch.setattr(ImageFolder, "_read", note)
    return names


def change(survey: Any) -> None:
    """Two objects are new, one has another position, one another label, one another picture; three are gone."""
    generator = np.random.default_rng(5)
    for name in ("h000.png", "h001.png"):
        Image.fromarray(generator.integers(0, 255, (48, 48, 3), np.uint8)).save(survey.images / name)
    Image.new("RGB", (48, 48), (9, 9, 9)).save(survey.images / "g012.png")
    table = survey.table
    table.loc[10, "dec"] = 61.0
    table.loc[11, "shape"] = "flat" if table["shape"][11] == "round" else "round"
    new = pd.DataFrame(
        {"name": ["h000.png", "h001.png"], "ra": [10.0, 20.0], "dec": [5.0, 6.0], "shape": ["flat", "round"]}
    )
    survey.table = pd.concat([table.drop(index=[0, 1, 2]), new], ignore_index=True)


def test_only_what_is_new_or_changed_is_read(survey, read_names: list[str]) -> None:
    old = run(survey, "old")
    before = content(StampDataset.open(old["dataset"]))
    change(survey)
    read_names.clear()
    new = run(survey, "new")
    assert sorted(read_names) == ["g010.png", "g011.png", "g012.png", "h000.png", "h001.png"]
    assert new["delta"] == {"input": 39, "refused": 0, "kept": 34, "new": 2, "changed": 3, "retired": 3}
    assert (new["objects"], new["accepted"], len(new["parts"])) == (39, 39, 2)
    assert new["digest"] != old["digest"]

    fresh = content(StampDataset.open(run_alone(survey)["dataset"]))
    pd.testing.assert_frame_equal(content(StampDataset.open(new["dataset"])), fresh)
    pd.testing.assert_frame_equal(content(StampDataset.open(old["dataset"])), before)


def run_alone(survey: Any) -> dict[str, Any]:
    """The same catalogue where nothing was before."""
    return ingest(survey.context("elsewhere/ingest-alone"))


def test_a_second_delta_stands_on_the_first(survey, read_names: list[str]) -> None:
    run(survey, "a")
    change(survey)
    run(survey, "b")
    survey.table = survey.table.drop(index=[5]).reset_index(drop=True)
    survey.table.loc[0, "ra"] = 1.0
    read_names.clear()
    third = run(survey, "c")
    assert len(read_names) == 1 and len(third["parts"]) == 3
    pd.testing.assert_frame_equal(
        content(StampDataset.open(third["dataset"])), content(StampDataset.open(run_alone(survey)["dataset"]))
    )


def test_the_same_catalogue_in_another_order_changes_nothing(survey, read_names: list[str]) -> None:
    old = run(survey, "old")
    survey.table = survey.table.sample(frac=1, random_state=0)
    read_names.clear()
    new = run(survey, "new")
    assert not read_names
    assert new["delta"]["kept"] == 40 and len(new["parts"]) == 1
    pd.testing.assert_frame_equal(
        content(StampDataset.open(new["dataset"])), content(StampDataset.open(old["dataset"]))
    )


def test_objects_that_are_only_gone_need_no_part(survey) -> None:
    run(survey, "old")
    survey.table = survey.table.iloc[:-4]
    new = run(survey, "new")
    assert (new["objects"], new["accepted"], len(new["parts"])) == (36, 36, 1)
    assert len(StampDataset.open(new["dataset"])) == 36


def test_refusals_are_those_of_the_newest_catalogue(survey) -> None:
    survey.table.loc[3, "dec"] = 99.0
    (survey.images / "g004.png").write_bytes(b"no picture")
    old = run(survey, "old")
    assert old["refused"] == {"position out of range": 1, "unreadable image": 1}
    survey.table.loc[3, "dec"] = 45.0
    survey.table.loc[7, "ra"] = np.nan
    new = run(survey, "new")
    assert new["refused"] == {"position missing": 1, "unreadable image": 1}
    assert new["objects"] == new["accepted"] + 2 == 40
    survey.table = survey.table.drop(index=4)
    assert run(survey, "last")["refused"] == {"position missing": 1}
    quarantine = pd.read_parquet(StampDataset.open(old["dataset"]).root + "/quarantine.parquet")
    assert sorted(quarantine["reason"]) == ["position out of range", "unreadable image"]


def test_another_definition_or_too_much_change_begins_anew(survey) -> None:
    run(survey, "old")
    survey.source["survey_bands"] = "gri"
    assert "delta" not in run(survey, "other")
    survey.table["ra"] = (survey.table["ra"] + 1) % 360
    assert "delta" not in run(survey, "moved")


def test_a_kill_between_plan_and_end_is_carried_on(survey, monkeypatch: pytest.MonkeyPatch) -> None:
    run(survey, "old")
    change(survey)
    undisturbed = run(survey, "calm")
    shutil.rmtree(survey.root / "small/ingest-calm")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.ingest.ingest._load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run(survey, "calm")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.ingest.ingest.make_plan", lambda *_: pytest.fail("planned again"))
        assert run(survey, "calm") == undisturbed


def test_a_dataset_without_its_older_parts_says_so(survey) -> None:
    run(survey, "old")
    change(survey)
    new = run(survey, "new")
    shutil.rmtree(survey.root / "small/ingest-old")
    with pytest.raises(GalaxyError, match=r"no stamp part at .*ingest-old.*run the ingest stage"):
        StampDataset.open(new["dataset"])
    again = run(survey, "new")  # and running it makes the whole anew
    assert "delta" not in again and again["accepted"] == 39


def test_what_failed_is_tried_again(survey) -> None:
    picture = (survey.images / "g004.png").read_bytes()
    (survey.images / "g004.png").write_bytes(b"no picture")
    assert run(survey, "old")["accepted"] == 39
    (survey.images / "g004.png").write_bytes(picture)
    survey.table = survey.table.iloc[:-1]
    new = run(survey, "new")
    assert new["accepted"] == 39 and new["delta"]["changed"] == 1 and not new["refused"]


def test_a_shrunken_catalogue_is_made_anew(survey) -> None:
    run(survey, "old")
    survey.table = survey.table.iloc[:10]
    assert "delta" not in run(survey, "new")


def test_another_store_begins_anew(survey, tmp_path) -> None:
    run(survey, "old")
    change(survey)
    context = survey.context("small/ingest-new")
    moved = dataclasses.replace(context, settings=context.settings.model_copy(update={"store": "memory://stamps"}))
    result = ingest(moved)
    assert "delta" not in result and result["accepted"] == 39


def test_bricks_are_opened_for_new_objects_alone(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sky.objects
    brick = whole["brickname"].iloc[0]
    sky.objects = whole[whole["brickname"] != brick].reset_index(drop=True)
    run(sky, "old")
    sky.objects = whole
    opened: list[str] = []
    original = Bricks._cut

    def note(self: Bricks, tile: str, *arguments: Any) -> Any:
        opened.append(tile)
        return original(self, tile, *arguments)

    monkeypatch.setattr(Bricks, "_cut", note)
    result = run(sky, "new")
    assert result["delta"]["new"] == int((whole["brickname"] == brick).sum())
    assert opened and len(opened) < 4
