"""Labels and galaxy-lvm in, the model galaxy-morphology out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import NO_LIMIT, Epochs, ProfileName, Shares, SurveyName
from flows.report import reported
from tasks.chain import open_chain
from tasks.train.steps import finetune_model


@flow(name="finetune", flow_run_name="finetune {survey} ({profile})")
def finetune(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    epochs: Epochs = 0.0,
    shares: Shares = "as the profile says",
) -> dict[str, Any]:
    """Fine-tune the vision model on all labelled tasks, weaker tasks getting a larger share.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        epochs: Passes over the labelled train stamps; 0 takes the profile's, up to its most steps.
        shares: How the steps are shared among the tasks.
    """
    overrides: dict[str, Any] = {"epochs": epochs, "max_steps": NO_LIMIT} if epochs else {}
    if shares != "as the profile says":
        overrides["shares"] = shares
    return reported("finetune", finetune_model, open_chain(survey, profile, finetune=overrides))
