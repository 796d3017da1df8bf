"""Labels: from tables to columns to arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from infra.errors import GalaxyError
from tasks.ingest import labels
from tasks.ingest.catalogue import complete_catalogue
from tasks.ingest.ingest import ingest
from tasks.ingest.simulated import SimulatedGalaxies
from tasks.ingest.survey import LabelTable, load_survey
from tasks.stamps.dataset import StampDataset


def table(**keys: Any) -> LabelTable:
    return LabelTable.model_validate({"name": "t", "source": "s", "feeds": [], **keys})


def columns(definition: LabelTable, frame: pd.DataFrame) -> pd.DataFrame:
    return labels.label_columns(definition, frame, "a table")[0]


def test_classes_are_coded_in_the_order_of_the_definition() -> None:
    definition = table(kind="classes", column="code", classes={"0": "round", "4": "spiral", "7": "round"})
    frame = pd.DataFrame({"code": [4.0, 0.0, np.nan, 7.0, 5.0]})
    found, unknown = labels.label_columns(definition, frame, "a table")
    assert found["label.t"].tolist() == ["spiral", "round", None, "round", None]
    assert unknown.to_dict() == {4: "5"}
    assert labels.class_names(definition) == ["round", "spiral"]
    assert labels.class_codes(found, definition).tolist() == [1, 0, -1, 0, -1]


def test_several_columns_make_one_class() -> None:
    definition = table(kind="classes", column=["question", "answer"], classes={"5/a-0": "tight", "6/a-0": "one_arm"})
    frame = pd.DataFrame({"question": [5, 6, 6], "answer": ["a-0", "a-0", None]})
    assert columns(definition, frame)["label.t"].tolist() == ["tight", "one_arm", None]


def test_products_along_a_tree_become_fractions_of_a_questions_own_answers() -> None:
    definition = table(
        kind="votes",
        questions={"smooth": {"yes": "a", "no": "b"}, "arms": {"one": "b1", "two": "b2"}},
        parents={"arms": "b"},
        minimum_parent=0.1,
    )
    frame = pd.DataFrame({"a": [0.5, 0.95, 1.0], "b": [0.5, 0.05, 0.0], "b1": [0.4, 0.05, 0.0], "b2": [0.1, 0, 0]})
    fractions = labels.vote_fractions(columns(definition, frame), definition)
    assert fractions["smooth"][0].tolist() == [0.5, 0.5]
    assert fractions["arms"][0] == pytest.approx([0.8, 0.2])
    assert np.isnan(fractions["arms"][1:]).all()  # too few, or nobody, came to that question


def test_counts_become_fractions_and_the_number_of_those_who_voted() -> None:
    definition = table(kind="votes", questions={"bar": {"yes": "a", "no": "b"}, "odd": {"yes": "c"}}, counts=True)
    frame = pd.DataFrame({"a": [3, 0, 1.5, -1, np.nan], "b": [1, 0, 0.5, 4, 2], "c": [2, 0, 1, 1, 1]})
    catalog = columns(definition, frame)
    bar = labels.vote_fractions(catalog, definition)["bar"]
    assert bar[[0, 2]] == pytest.approx(np.array([[0.75, 0.25]] * 2)), "weighted votes need not be whole numbers"
    assert np.isnan(bar[[1, 3, 4]]).all(), "nobody asked, or no number of votes"
    known = labels.voters(catalog, definition)["bar"]
    assert known[:3].tolist() == [4, 0, 2] and np.isnan(known[3:]).all()


def test_fractions_may_come_with_the_number_of_votes_behind_them() -> None:
    questions = {"bar": {"yes": "a", "no": "b"}, "odd": {"yes": "c"}}
    definition = table(kind="votes", questions=questions, voters={"bar": "bar_total"})
    catalog = columns(definition, pd.DataFrame({"a": [0.75], "b": [0.25], "c": [1.0], "bar_total": [12]}))
    assert {name: number.tolist() for name, number in labels.voters(catalog, definition).items()} == {"bar": [12.0]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"voters": {"barz": "n"}}, "`voters` names questions .*barz"),
        ({"voters": {"bar": "n"}, "counts": True}, "leave out `parents` and `voters`"),
    ],
)
def test_numbers_of_votes_that_contradict_the_definition_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(kind="votes", questions={"bar": {"yes": "a", "no": "b"}}, **keys)


def test_ellipticity_gives_the_axis_ratio_and_is_missing_for_point_sources() -> None:
    definition = table(kind="values", values={"radius": "r"}, ellipticity=["e1", "e2"], missing=[0.0])
    assert definition.parameters == ["radius", "axis_ratio", "e1", "e2"]
    frame = pd.DataFrame({"r": [1.5, 0.0, 0.7, 2.0], "e1": [0.3, 0.0, 0.0, 0.9], "e2": [0.4, 0.0, 0.0, 0.9]})
    values = labels.parameter_values(columns(definition, frame), definition)
    assert values[0] == pytest.approx([1.5, 1 / 3, 0.3, 0.4])
    assert np.isnan(values[1]).all(), "all nought: Tractor fitted a point source"
    assert values[2] == pytest.approx([0.7, 1, 0, 0]), "a round galaxy has a shape"
    assert values[3, 0] == 2 and np.isnan(values[3, 1:]).all(), "no ellipse has |e| above 1"
    with pytest.raises(ValueError, match="axis_ratio"):
        table(kind="values", values={"axis_ratio": "q"}, ellipticity=["e1", "e2"])


def test_undetermined_values_are_missing() -> None:
    definition = table(kind="values", values={"bar": "Bar", "bulge": "Bulge"}, missing=[-1])
    values = labels.parameter_values(
        columns(definition, pd.DataFrame({"Bar": [0.5, -1], "Bulge": ["x", "1"]})), definition
    )
    assert values[0, 0] == 0.5
    assert values[1, 1] == 1
    assert np.isnan([values[1, 0], values[0, 1]]).all()


def test_grades_and_masks() -> None:
    definition = table(kind="grade", column="g", positive_from=2, negative_to=0.3)
    assert labels.grades(columns(definition, pd.DataFrame({"g": [3.0, None]})), definition).tolist()[0] == 3
    mask = np.zeros((9, 9), bool)
    mask[2, 3:7] = True
    definition = table(kind="truth_mask", column="m")
    catalog = columns(definition, pd.DataFrame({"m": [labels.pack_mask(mask), None]}))
    masks = labels.masks(catalog, definition, 9)
    assert masks.known.tolist() == [True, False]
    assert np.array_equal(masks(np.array([1, 0]))[1], mask)
    assert not masks[1].any()


def test_a_missing_column_is_named() -> None:
    definition = table(kind="grade", column="expert", positive_from=2, negative_to=0)
    with pytest.raises(GalaxyError, match="no column 'expert' in a table; it has grade"):
        columns(definition, pd.DataFrame({"grade": [1]}))


def test_parents_must_be_questions() -> None:
    with pytest.raises(ValueError, match="armz"):
        table(kind="votes", questions={"arms": {"one": "a"}}, parents={"armz": "b"})


def test_classes_may_be_called_what_pandas_takes_for_missing(survey) -> None:
    shapes = np.resize(["None", "NA", "01", "2.0"], len(survey.table)).astype(object)
    survey.table["shape"] = shapes
    survey.labels[0]["classes"] = {"None": "nothing", "NA": "unclear", "01": "first", "2": "second"}
    catalog = StampDataset.open(ingest(survey.context())["dataset"]).catalog.set_index("file")
    expected = {"None": "nothing", "NA": "unclear", "01": "first", "2.0": "second"}
    assert [catalog["label.shape"][name] for name in survey.table["name"]] == [expected[shape] for shape in shapes]


def test_a_simulated_class_that_the_definition_forgets_is_in_the_quarantine() -> None:
    definition = load_survey("embedded")
    source = definition.sources[0].model_copy(update={"count": 60})
    classes = next(table for table in definition.labels if table.kind == "classes")
    forgetful = classes.model_copy(update={"classes": {k: v for k, v in classes.classes.items() if k != "spiral"}})
    definition = definition.model_copy(update={"sources": [source], "labels": [forgetful]})
    rows = SimulatedGalaxies(source, 64, ("g", "r", "z")).rows()
    known = {"survey": "embedded", "source": source.name, "bands": "grz", "pixel_scale": 0.262, "state": "valid"}
    _, refused = complete_catalogue(rows.assign(**known, healpix=0), definition)
    spirals = rows.loc[rows["class"] == "spiral", "object_id"]
    assert len(spirals) and refused["object_id"].tolist() == spirals.tolist()
    assert set(refused["reason"]) == {"label is no class of the definition"}
