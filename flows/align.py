"""Symbols, texts and labelled stamps in, the model galaxy-align out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import NO_LIMIT, Epochs, ProfileName, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.train.steps import align_model


@flow(name="align", flow_run_name="align {survey} ({profile})")
def align(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    epochs: Epochs = 0.0,
) -> dict[str, Any]:
    """Bring images, schematic symbols and texts into one space (GalaxAlign).

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        epochs: Passes over the labelled train stamps of the stage that aligns all three; 0 takes the profile's, up to
            its most steps.
    """
    overrides = {"epochs": epochs, "max_steps": NO_LIMIT} if epochs else {}
    return reported("align", align_model, open_chain(survey, profile, align=overrides))
