"""Arcs and graded lenses in, the model galaxy-lens-finder out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import ProfileName, Steps, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.train.steps import train_lens_finder


@flow(name="find-lenses", flow_run_name="find-lenses {survey} ({profile})")
def find_lenses(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    steps: Steps = 0,
) -> dict[str, Any]:
    """Train the lens finder: Mask R-CNN on the vision model's pyramid.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        steps: Training steps; 0 takes the profile's.
    """
    overrides = {"steps": steps} if steps else {}
    return reported("find-lenses", train_lens_finder, open_chain(survey, profile, find_lenses=overrides))
