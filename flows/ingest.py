"""Catalogue and survey in, stamp dataset out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import ProfileName, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.ingest.steps import ingest_stamps


@flow(name="ingest", flow_run_name="ingest {survey} ({profile})")
def ingest(survey: SurveyName = "embedded", profile: ProfileName = "laptop") -> dict[str, Any]:
    """Make the stamp dataset of a survey, or complete one that was begun.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
    """
    return reported("ingest", ingest_stamps, open_chain(survey, profile))
