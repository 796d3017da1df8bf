"""All stages in order, from a catalogue to registered models and a published catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import Flow, flow
from prefect.runtime import flow_run

from flows.align import align
from flows.find_lenses import find_lenses
from flows.finetune import finetune
from flows.infer import infer
from flows.ingest import ingest
from flows.parameters import ProfileName, StageList, SurveyName
from flows.preprocess import preprocess
from flows.pretrain import pretrain
from infra.progress import progress_of
from tasks.chain import chosen_stages, open_chain
from tasks.track.runs import FlowRun, survey_run_tracking

FLOWS: Mapping[str, Flow[..., dict[str, Any]]] = {
    "ingest": ingest,
    "preprocess": preprocess,
    "pretrain": pretrain,
    "finetune": finetune,
    "align": align,
    "find-lenses": find_lenses,
    "infer": infer,
}


@flow(name="survey-run", flow_run_name="survey-run {survey} ({profile})")
def survey_run(
    survey: SurveyName = "embedded",
    profile: ProfileName = "laptop",
    stages: StageList = "all",
) -> dict[str, Any]:
    """Run a survey through every stage; what is done already is skipped, what was stopped is carried on.

    Args:
        survey: Name of a shipped survey (such as embedded or bricks), or the path of a survey definition in TOML.
        profile: Name of a shipped profile (laptop), or the path of a profile in TOML.
        stages: `all`, or stages separated by commas: ingest, preprocess, pretrain, finetune, align, find-lenses, infer.
    """
    chosen = chosen_stages(stages)
    chain = open_chain(survey, profile)
    this_run = FlowRun(str(flow_run.id or ""), str(flow_run.ui_url or ""))
    results = {}
    with survey_run_tracking(chain.settings, chain.survey, chain.profile, flow=this_run) as tracked:
        for stage in chosen:
            missing = chain.missing_labels(stage)
            if missing and stages.strip() == "all":
                progress_of(stage)(1, 1, f"left out: no label table of {chain.survey.name} feeds {missing}")
                continue
            results[stage] = FLOWS[stage](survey=survey, profile=profile)
            tracked.link_stage(stage, Path(results[stage]["folder"]))
    return results
