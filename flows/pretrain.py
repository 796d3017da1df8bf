"""Prepared stamps in, the model galaxy-lvm out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import NO_LIMIT, Epochs, ProfileName, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.train.steps import pretrain_model


@flow(name="pretrain", flow_run_name="pretrain {survey} ({profile})")
def pretrain(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    epochs: Epochs = 0.0,
) -> dict[str, Any]:
    """Pre-train the large vision model without labels, or carry on where a run was stopped.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        epochs: Passes over the usable train stamps; 0 takes the profile's. Another number makes a model of its own,
            beside the one that later stages of this profile read.
    """
    overrides = {"epochs": epochs, "max_steps": NO_LIMIT} if epochs else {}
    return reported("pretrain", pretrain_model, open_chain(survey, profile, pretrain=overrides))
