"""Registered models and prepared stamps in, the published catalogue out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import Alias, ProfileName, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.infer.steps import infer_catalogue, resolve_models


@flow(name="infer", flow_run_name="infer {survey} ({profile})")
def infer(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    alias: Alias = "champion",
) -> dict[str, Any]:
    """Predict with every registered model for every stamp, and publish the catalogue whole.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        alias: Which version of each model to use; it is turned into version numbers once, at the start.
    """
    return reported("infer", infer_catalogue, resolve_models(open_chain(survey, profile), alias))
