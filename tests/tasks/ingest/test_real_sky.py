"""The shipped definition of real images: every table is understood, and every label is where it belongs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from infra.settings import Settings
from tasks.ingest import labels
from tasks.ingest.plan import Plan, make_plan
from tasks.ingest.survey import LabelTable, SurveyDefinition, load_survey


@pytest.fixture(scope="module")
def definition() -> SurveyDefinition:
    return load_survey("real_sky")


@pytest.fixture(scope="module")
def plan(definition: SurveyDefinition, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    settings = Settings.from_environment()
    if not (settings.sky / "gz2").is_dir():
        pytest.skip(f"there are no real images at {settings.sky}; set GALAXY_SKY")
    return make_plan(definition, settings, tmp_path_factory.mktemp("plan"))


def table_of(plan: Plan) -> pd.DataFrame:
    return pd.concat(plan.rows(), ignore_index=True)


def table(definition: SurveyDefinition, name: str) -> LabelTable:
    return next(one for one in definition.labels if one.name == name)


def test_class_names_of_different_tables_differ(definition: SurveyDefinition) -> None:
    names = [name for one in definition.labels if one.kind == "classes" for name in labels.class_names(one)]
    assert len(set(names)) == len(names)


def test_every_picture_is_planned_and_every_label_has_its_place(definition: SurveyDefinition, plan: Plan) -> None:
    assert plan.counts["refused"] == 0
    assert set(plan.refused["reason"]) == {"second label for one object"}
    rows = table_of(plan)
    for one in definition.labels:
        column = next(name for name in rows.columns if name.split(".")[1:2] == [one.name])
        assert set(rows.loc[rows[column].notna(), "source"]) == {one.source}
    assert rows.loc[rows["source"] == "field_guide", "label.field_guide"].notna().all()
    fields = rows.loc[rows["source"] == "space_warps", "field"]
    assert fields.notna().all()
    assert fields.nunique() < len(fields)


def test_vote_fractions_of_a_question_add_up_to_one(definition: SurveyDefinition, plan: Plan) -> None:
    for question, fractions in labels.vote_fractions(table_of(plan), table(definition, "gz2_votes")).items():
        answered = fractions[np.isfinite(fractions).all(axis=1)]
        assert len(answered) > 50, question
        assert np.allclose(answered.sum(axis=1), 1, atol=1e-4), question


def test_undetermined_attributes_are_missing_but_a_hubble_stage_may_be_negative(
    definition: SurveyDefinition, plan: Plan
) -> None:
    stage = labels.parameter_values(table_of(plan), table(definition, "efigi_stage"))
    attributes = labels.parameter_values(table_of(plan), table(definition, "efigi_attributes"))
    assert (np.nanmin(stage), np.nanmax(stage)) == (-6, 11)
    assert (np.nanmin(attributes), np.nanmax(attributes)) == (0, 1)
