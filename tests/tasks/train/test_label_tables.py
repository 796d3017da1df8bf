"""Labels become targets: of usable stamps of their own source, balanced by class and by source, with their votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infra.progress import silent
from tasks.train.finetune_batches import BatchDrawer, label_groups
from tasks.train.label_tables import labelled_stamps
from tasks.train.working_copy import make_working_copy
from tests.doubles.labelled_ellipses import prepared_of, survey_of
from tests.doubles.uneven_sources import uneven_drawer


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
    drawers = (BatchDrawer(label_groups(tables, 20.0, balance), train, copy, 400, seed=1) for balance in (0.0, 1.0))
    as_they_are, balanced = (drawer.draw(0, drawer.turn("classification"))["targets"] for drawer in drawers)
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
    drawer = uneven_drawer(tmp_path)
    sources = [drawer.draw(step, drawer.turn("classification"))["source"] for step in range(40)]
    assert sources.count("near") == 30
    assert set(sources[:4]) == {"near", "far"}
