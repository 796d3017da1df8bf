"""A search's labels become tables that a survey definition names and `finetune` and `find-lenses` can read."""

from __future__ import annotations

import tomllib

import pandas as pd
import pytest

from infra.errors import GalaxyError
from tasks.ingest.ingest import ingest
from tasks.ingest.labels import label_columns
from tasks.ingest.survey import LabelTable
from tasks.search.labels import publish_labels
from tasks.stamps.dataset import StampDataset
from tests.tasks.ingest.conftest import Survey

LABELS = pd.DataFrame(
    {
        "object_id": ["g3", "g1", "h1"],
        "source": ["gz2", "gz2", "hsc"],
        "wanted": [True, False, True],
        "person": ["ada", "ada", "bo"],
    }
)


@pytest.fixture
def survey(tmp_path):
    """Forty pictures with a table."""
    return Survey(tmp_path / "survey")


def test_the_definition_reads_the_file_that_it_names(tmp_path):
    published = publish_labels(tmp_path, "edge_on", LABELS)
    assert [(one.source, one.rows) for one in published] == [("gz2", 2), ("hsc", 1)]
    tables = [LabelTable.model_validate(table) for table in tomllib.loads(published[0].definition)["labels"]]
    assert [table.feeds for table in tables] == [["classification"], ["lens"]]
    frame = pd.read_parquet(tables[0].catalogue)
    classes, unknown = label_columns(tables[0], frame, "it")
    grades, _ = label_columns(tables[1], frame, "it")
    assert frame["object_id"].tolist() == ["g1", "g3"] and unknown.empty
    assert classes["label.edge_on"].tolist() == ["not_edge_on", "edge_on"]
    assert grades["grade.edge_on_grade"].tolist() == [0, 1]


def test_the_same_labels_in_any_order_are_the_same_file_and_other_ones_another(tmp_path):
    first = publish_labels(tmp_path, "edge_on", LABELS)[0].path
    made = first.stat().st_mtime_ns
    assert publish_labels(tmp_path, "edge_on", LABELS[::-1])[0].path == first
    assert first.stat().st_mtime_ns == made
    other = LABELS.assign(wanted=True)
    assert publish_labels(tmp_path, "edge_on", other)[0].path != first and first.is_file()


def test_two_labels_of_one_object_and_a_lost_column_are_refused(tmp_path):
    with pytest.raises(GalaxyError, match="'g1' has two labels"):
        publish_labels(tmp_path, "edge_on", pd.concat([LABELS, LABELS[1:2]]))
    with pytest.raises(GalaxyError, match="no column 'source'"):
        publish_labels(tmp_path, "edge_on", LABELS.drop(columns="source"))


@pytest.mark.parametrize("kind", ["images", "simulated"])
def test_published_labels_find_their_objects_at_the_next_ingest(survey, tmp_path, kind):
    if kind == "simulated":
        survey.source = {"kind": "simulated", "name": "toys", "count": 12, "seed": 3}
        survey.units, survey.bands, survey.labels = "nanomaggy", ["g", "r", "z"], []
    objects = StampDataset.open(ingest(survey.context("before"))["dataset"]).catalog["object_id"]
    wanted = pd.Series({name: place % 3 == 0 for place, name in enumerate(objects[:9])})
    labels = pd.DataFrame({"object_id": wanted.index, "source": survey.source["name"], "wanted": wanted.to_numpy()})
    [published] = publish_labels(tmp_path / "tables", "thin", labels)
    survey.labels += tomllib.loads(published.definition)["labels"]
    dataset = StampDataset.open(ingest(survey.context("after"))["dataset"])
    found = dataset.catalog.set_index("object_id")
    assert found["label.thin"].dropna().to_dict() == wanted.map({True: "thin", False: "not_thin"}).to_dict()
    assert found["grade.thin_grade"].dropna().to_dict() == wanted.astype(float).to_dict()
    assert dataset.quarantine.empty
