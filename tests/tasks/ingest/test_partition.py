"""A plan that went through files in pieces is the plan that memory alone would have made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks.ingest import partition, table_batches
from tasks.ingest.ingest import ingest
from tasks.ingest.partition import Keyed, SkyPartition, by_object
from tasks.stamps.dataset import StampDataset
from tasks.stamps.sky_order import sort_by_sky


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of seven rows, so that forty are many."""
    monkeypatch.setattr(partition, "ROWS", 7)
    monkeypatch.setattr(partition, "GROUPS", 9)
    monkeypatch.setattr(table_batches.table_batches, "__kwdefaults__", {"optional": (), "rows": 7})


def spoil(survey) -> None:
    """Second rows of objects, labels that differ, an own table of grades, and rows that are no objects."""
    table = survey.table.astype({"name": object})
    again = table.iloc[[3]].assign(shape="flat" if table["shape"][3] == "round" else "round")
    other = table.iloc[[5]].assign(dec=-61.0)
    table = pd.concat([table, again, table.iloc[[30]], other], ignore_index=True)
    table.loc[11, "dec"] = 100.0
    table.loc[12, "name"] = "absent.png"
    survey.table = table
    grades = pd.DataFrame({"who": [f"g{number:03d}" for number in range(0, 44, 2)], "grade": np.arange(22) / 10})
    grades.to_csv(survey.root / "grades.csv", index=False)
    survey.labels += [
        {
            "name": "grade", "source": "pictures", "kind": "grade", "catalogue": str(survey.root / "grades.csv"),
            "key": "who", "column": "grade", "positive_from": 1.5, "negative_to": 0.5, "feeds": ["lens"],
        }
    ]  # fmt: skip


def test_a_plan_in_pieces_is_the_plan_in_one(survey, request: pytest.FixtureRequest) -> None:
    spoil(survey)
    whole = ingest(survey.context("whole"))
    request.getfixturevalue("small_pieces")
    pieces = ingest(survey.context("pieces"))
    assert not (survey.root / "pieces/plan").exists()
    assert pieces["digest"] == whole["digest"]
    assert (pieces["objects"], pieces["refused"], pieces["labels_refused"]) == (
        whole["objects"], whole["refused"], whole["labels_refused"],
    )  # fmt: skip
    assert whole["refused"]["duplicate object id"] == 2 and whole["labels_refused"]
    here, there = (StampDataset.open(result["dataset"]).quarantine for result in (whole, pieces))
    order = ["kind", "object_id", "reason", "detail"]
    pd.testing.assert_frame_equal(
        here.sort_values(order, ignore_index=True), there.sort_values(order, ignore_index=True)
    )


def test_rows_of_an_object_meet_in_one_group_in_their_order(tmp_path: Path, small_pieces: None) -> None:
    generator = np.random.default_rng(0)
    ids = pd.Series([f"object {number}" for number in generator.integers(0, 30, 100)], dtype=object)
    ids[[4, 60]] = None
    rows = pd.DataFrame({"value": np.arange(100)})

    def stream(first: int):
        for start in range(first, 100, 9):
            part = slice(start, min(start + 9, 100))
            yield Keyed(ids[part], rows[part], rows[part].rename(columns={"value": "cell"}))

    groups = list(by_object({"a": stream(0), "b": stream(50)}, tmp_path / "groups"))
    assert len(groups) == partition.GROUPS
    seen = []
    for group in groups:
        if "a" in group:
            a = group["a"]
            assert a.ids.where(a.ids.notna(), None).tolist() == ids[a.rows.index].tolist()
            assert (a.rows["value"].to_numpy() == a.rows.index).all() and a.rows.index.is_monotonic_increasing
            assert (a.cells["cell"].to_numpy() == a.rows.index).all()
            seen += a.rows.index.tolist()
            if "b" in group:
                assert set(group["b"].ids.dropna()) <= set(a.ids.dropna())
    assert sorted(seen) == list(range(100))


def test_the_sky_in_ranges_is_the_sky_in_one(tmp_path: Path, small_pieces: None) -> None:
    generator = np.random.default_rng(1)
    rows = pd.DataFrame(
        {
            "object_id": [f"a/{number}" for number in generator.permutation(200)],
            "ra": generator.uniform(0, 360, 200),
            "dec": generator.uniform(-90, 90, 200),
        }
    )
    rows.loc[::9, ["ra", "dec"]] = np.nan
    sky = SkyPartition(tmp_path / "sky")
    for start in range(0, 200, 13):
        sky.add(rows[start : start + 13])
    pieces = sky.pieces()
    assert len(list(pieces())) > 10
    expected = sort_by_sky(rows)
    for _ in range(2):  # it can be read again
        pd.testing.assert_frame_equal(pd.concat(pieces(), ignore_index=True), expected, check_dtype=False)
    assert len(sky) == 200
