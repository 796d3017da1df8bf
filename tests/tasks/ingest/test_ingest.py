"""The stage as a whole: resumed after any kill, complete, and with a reason for whatever is missing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from infra.errors import GalaxyError
from tasks.ingest.ingest import ingest
from tasks.ingest.table_batches import read_table
from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import IncompletePartError
from tasks.stamps.storage import LocalStorage


def test_a_dataset_holds_every_picture_in_the_order_of_the_sky(survey) -> None:
    result = ingest(survey.context())
    dataset = StampDataset.open(result["dataset"])
    assert (result["objects"], result["accepted"], result["refused"]) == (40, 40, {})
    assert (np.diff(dataset.catalog["healpix"]) > 0).all()
    names = dataset.catalog["object_id"].str.removeprefix("pictures/") + ".png"
    table = survey.table.set_index("name").loc[names]
    assert np.allclose(dataset.catalog["ra"], table["ra"])
    assert dataset.catalog["label.shape"].tolist() == table["shape"].tolist()
    assert dataset.catalog["pixel_scale"].isna().all()
    assert dataset.units == "rgb"
    assert dataset.bands == ("R", "G", "B")


def test_rows_without_a_position_are_in_the_order_of_their_ids(survey) -> None:
    survey.source["columns"] = {"object_id": "name"}  # the file is called like the object
    survey.table = survey.table.iloc[::-1]
    catalog = StampDataset.open(ingest(survey.context())["dataset"]).catalog
    assert catalog["object_id"].tolist() == sorted(catalog["object_id"])
    assert (catalog["healpix"] == -1).all()


@pytest.mark.slow
def test_workers_and_order_of_the_table_do_not_change_the_digest(survey) -> None:
    alone = ingest(survey.context("alone"))["digest"]
    survey.table = survey.table.sample(frac=1, random_state=1)
    assert ingest(survey.context("shuffled"))["digest"] == alone
    assert ingest(survey.context("cluster", workers=2))["digest"] == alone


@pytest.mark.parametrize(("unit", "factors"), [("hour", (15, 1)), ("radian", (57.29577951308232, 57.29577951308232))])
def test_positions_in_other_units_are_the_same_places(survey, unit: str, factors: tuple[float, float]) -> None:
    expected = ingest(survey.context("degrees"))
    survey.source["columns"]["position_unit"] = unit
    for name, factor in zip(("ra", "dec"), factors, strict=True):
        survey.table[name] /= factor
    found = ingest(survey.context("others"))
    here, there = (StampDataset.open(result["dataset"]).catalog for result in (expected, found))
    assert np.allclose(here[["ra", "dec"]], there[["ra", "dec"]], rtol=0, atol=1e-9)


def test_bad_rows_are_refused_and_the_rest_goes_on(survey) -> None:
    table = survey.table
    table.loc[0, "ra"] = np.nan
    table.loc[1, "dec"] = 91
    table.loc[2, "ra"] = -5
    table.loc[4, "name"] = table.loc[3, "name"]  # another position: another object under the same id
    table.loc[5, "name"] = "absent.png"
    table.loc[6, "name"] = None
    survey.table = pd.concat([table, table.iloc[[7]]], ignore_index=True)  # the very same row again
    (survey.images / "g008.png").write_bytes((survey.images / "g008.png").read_bytes()[:60])
    result = ingest(survey.context())
    refused = result["refused"]
    assert refused.pop("truncated image", 0) + refused.pop("unreadable image", 0) == 1
    assert refused == {
        "position missing": 1,
        "position out of range": 2,
        "duplicate object id": 2,
        "no image file": 1,
        "no object id": 1,
    }
    assert result["objects"] == 41
    assert result["accepted"] == 41 - 8
    quarantine = pd.read_parquet(result["quarantine"]).set_index("object_id")
    assert quarantine.loc["pictures/g008", "state"] == "failed"
    assert quarantine.loc["pictures/g001", "reason"] == "position out of range"
    assert "91" in quarantine.loc["pictures/g001", "detail"]
    states = StampDataset.open(result["dataset"]).catalog.set_index("object_id")["state"]
    assert states["pictures/g008"] == "failed"
    assert "pictures/g001" not in states


def test_several_labels_of_one_picture_are_one_object(survey) -> None:
    other = survey.table.iloc[[3]].assign(shape="flat" if survey.table["shape"][3] == "round" else "round")
    survey.table = pd.concat([survey.table, other], ignore_index=True)
    result = ingest(survey.context())
    assert (result["objects"], result["accepted"]) == (40, 40)
    assert result["labels_refused"] == {"second label for one object": 1}
    catalog = StampDataset.open(result["dataset"]).catalog.set_index("object_id")
    assert catalog.loc["pictures/g003", "label.shape"] == survey.table["shape"][3]


def test_labels_that_find_no_place_are_quarantined(survey) -> None:
    votes = pd.DataFrame({"who": ["g000.png", "g999.png", "g002"], "grade": [2.5, 1.0, 0.5]})
    votes.to_csv(survey.root / "grades.csv", index=False)
    survey.labels += [
        {
            "name": "grade", "source": "pictures", "kind": "grade", "catalogue": str(survey.root / "grades.csv"),
            "key": "who", "column": "grade", "positive_from": 2, "negative_to": 1, "feeds": ["lens"],
        }
    ]  # fmt: skip
    survey.table.loc[5, "shape"] = "square"
    result = ingest(survey.context())
    assert result["labels_refused"] == {
        "label for an image that is not there": 1,
        "label is no class of the definition": 1,
    }
    catalog = StampDataset.open(result["dataset"]).catalog.set_index("object_id")
    assert catalog.loc[["pictures/g000", "pictures/g002"], "grade.grade"].tolist() == [2.5, 0.5]
    assert catalog["grade.grade"].notna().sum() == 2
    assert catalog.loc["pictures/g005", "label.shape"] is None


def test_what_is_missing_is_named(survey) -> None:
    context = survey.context()
    survey.source["columns"]["ra"] = "right_ascension"
    with pytest.raises(GalaxyError, match=r"source pictures: no column 'right_ascension' in .*it has name, ra, dec"):
        ingest(survey.context())
    (survey.root / "table.csv").unlink()
    with pytest.raises(GalaxyError, match=r"table\.csv"):
        ingest(context)
    survey.source["columns"]["ra"] = "ra"
    survey.source["folder"] = str(survey.root / "elsewhere")
    with pytest.raises(GalaxyError, match=r"no folder .*elsewhere"):
        ingest(survey.context())
    with pytest.raises(GalaxyError, match=r"table\.xlsx ends in none of \.csv, .*convert it"):
        read_table(survey.root / "table.xlsx", [], "source pictures")


def test_a_survey_whose_rows_are_all_refused_says_so(survey) -> None:
    survey.table["dec"] = 100.0
    with pytest.raises(GalaxyError, match="every row was refused; position out of range: 40"):
        ingest(survey.context())


def test_a_second_run_loads_nothing_and_says_so(survey, monkeypatch) -> None:
    first = ingest(survey.context())
    survey.notes.clear()
    monkeypatch.setattr("tasks.ingest.images.ImageFolder.read", lambda *_: pytest.fail("read again"))
    assert ingest(survey.context()) == first
    assert survey.notes == ["3 of 3 shards were there already"]


def test_changed_tables_are_planned_anew(survey) -> None:
    first = ingest(survey.context())
    survey.table.loc[0, "shape"] = "flat" if survey.table["shape"][0] == "round" else "round"
    second = ingest(survey.context())
    assert second["digest"] != first["digest"]
    assert any("planning anew" in note for note in survey.notes)


def test_a_full_disk_keeps_what_is_done_and_the_next_run_carries_on(survey, monkeypatch) -> None:
    undisturbed = ingest(survey.context("undisturbed"))
    write, written = LocalStorage.write, []

    def fill_up(self: LocalStorage, key: str, *pieces: bytes) -> None:
        if key.startswith("ledger/00000002"):
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(key)
        write(self, key, *pieces)

    monkeypatch.setattr(LocalStorage, "write", fill_up)
    with pytest.raises(GalaxyError, match="2 of 3 shards are complete and kept"):
        ingest(survey.context())
    assert not (survey.root / "stage/dataset/dataset.json").exists()
    monkeypatch.undo()
    survey.notes.clear()
    assert ingest(survey.context())["digest"] == undisturbed["digest"]
    assert survey.notes[0] == "2 of 3 shards were there already"


SCRIPT = """
from pathlib import Path

from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.ingest import ingest
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext

if __name__ == "__main__":
    root = Path({root!r})
    definition = SurveyDefinition.model_validate_json((root / "definition.json").read_text())
    cluster = ClusterSettings(kind="inline")
    profile = Profile(name="small", cluster=cluster, ingest=IngestSettings(shard_stamps=16, chunk_stamps=4))
    settings = Settings(home=root, sky=root, mlflow_uri="unused")
    print("ready", flush=True)
    ingest(StageContext(definition, profile, settings, root / "killed", {{}}, silent, lambda *_: None))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_digest(make_survey) -> None:
    """Killed while planning, between creation and first shard, and after so many shards, with a little delay."""
    moments = ("plan", "load", "5", "18")
    survey = make_survey(300)
    expected = ingest(survey.context("undisturbed"))["digest"]
    (survey.root / "definition.json").write_text(survey.definition().model_dump_json())
    (survey.root / "run.py").write_text(SCRIPT.format(root=str(survey.root)))
    part = survey.root / "killed/dataset/parts/0000"
    reached = {"plan": part.exists, "load": (part / "part.json").exists}
    for number, moment in enumerate(moments):
        process = subprocess.Popen(
            [sys.executable, str(survey.root / "run.py")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        process.stdout.readline()  # imports are over: the stage begins
        while process.poll() is None and not (
            reached[moment]() if moment in reached else len(list(part.glob("ledger/*.json"))) >= int(moment)
        ):
            time.sleep(0.001)
        time.sleep(0.003 * number)
        process.kill()
        assert process.wait() == -signal.SIGKILL, f"it had ended before {moment}"
        process.stdout.close()
    loaded = len(list(part.glob("ledger/*.json")))
    assert loaded >= int(moments[-1])
    survey.notes.clear()
    assert ingest(survey.context("killed"))["digest"] == expected
    assert survey.notes[0].startswith(f"{loaded} of 19 shards")
    assert not [path for path in part.rglob("*") if path.suffix in (".partial", ".tmp")]


def test_a_part_that_is_made_anew_is_not_published_meanwhile(survey, monkeypatch) -> None:
    ingest(survey.context())
    survey.table = survey.table.iloc[:-1]
    monkeypatch.setattr("tasks.stamps.part.Part.create", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest(survey.context())
    with pytest.raises(IncompletePartError):
        StampDataset.open(survey.root / "stage/dataset")
    monkeypatch.undo()
    assert ingest(survey.context())["objects"] == 39
