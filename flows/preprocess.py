"""Stamp dataset in; quality flags, duplicate groups, splits and statistics out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import ProfileName, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.preprocess.steps import prepare_stamps


@flow(name="preprocess", flow_run_name="preprocess {survey} ({profile})")
def preprocess(survey: SurveyName = "embedded", profile: ProfileName = "laptop") -> dict[str, Any]:
    """Measure, flag, group and split the stamps of a survey.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
    """
    return reported("preprocess", prepare_stamps, open_chain(survey, profile))
