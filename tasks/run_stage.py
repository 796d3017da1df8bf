"""Runs one stage: skipped if done, carried on if begun, tracked, registered, and marked as done at the very end."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from galaxy_models.card import CardError
from galaxy_models.checkpoint import CheckpointError
from galaxy_models.training import BatchTooLargeError, DivergedError
from infra.errors import GalaxyError
from infra.progress import progress_of
from infra.remote import exists
from tasks.chain import MODELS, Chain
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.track.gate import decide_and_promote
from tasks.track.registry import register
from tasks.track.runs import FlowRun, find_survey_run, stage_run
from tasks.track.scores import asker

Work = Callable[[StageContext], Mapping[str, Any]]


def run_stage(chain: Chain, stage: str, work: Work) -> dict[str, Any]:
    """Do `stage`, or give back what it made before.

    Returns
    -------
    dict
        The stage's result; with `skipped` if nothing was done, `folder`, `mlflow_run` and `mlflow_page`, and for a
        training stage `registered`: name, version, and the gate's decision.
    """
    folder = chain.folder(stage)
    progress = progress_of(stage)
    with folder.locked():
        result = folder.result()
        if result is not None and _still_there(result):
            progress(1, 1, f"done before: {folder.path.name}")
            return {**result, "skipped": True}
        flow = FlowRun(str(flow_run.id or ""), str(flow_run.ui_url or ""))
        parent = find_survey_run(chain.settings, chain.survey.name, str(flow_run.root_flow_run_id or ""))
        tracked = stage_run(
            chain.settings, chain.survey, chain.profile, stage, folder.key, folder.path, parent=parent, flow=flow
        )
        with tracked as run:
            context = chain.context(stage, run.record)
            if "preprocess" in context.upstream:
                prepared = context.upstream["preprocess"]
                run.log_dataset(str(prepared["prepared"]), str(prepared["digest"]))
            with _mendable_errors(stage, folder.path):
                made = dict(work(context))
            run.log_result(made)
            if stage in MODELS:
                made["registered"] = _register(context, stage, folder.key, made, run.run_id)
        made |= {"folder": str(folder.path), "mlflow_run": run.run_id, "mlflow_page": run.url}
        folder.finish(made)
    return made


def _still_there(result: Mapping[str, Any]) -> bool:
    """Whether what a result names has not been deleted since; what is gone is made again."""
    made = [result[kind] for kind in ("dataset", "prepared", "model", "catalogue") if kind in result]
    return all(exists(place) for place in [*made, *result.get("parts", ())])


@contextmanager
def _mendable_errors(stage: str, folder: Path) -> Iterator[None]:
    """What the user can mend, raised by code that knows no users, as the error that is shown as a message."""
    try:
        yield
    except (BatchTooLargeError, CardError, CheckpointError, DivergedError) as error:
        raise GalaxyError(f"stage {stage}: {error}") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise GalaxyError(
            f"stage {stage}: no space left for {folder}; what is finished is kept. Free some space and run again"
        ) from error


def _register(context: StageContext, stage: str, key: str, made: Mapping[str, Any], run_id: str) -> dict[str, str]:
    name, settings, prepared = MODELS[stage], context.settings, context.upstream["preprocess"]
    digest = str(prepared["digest"])
    version = register(
        settings, name, made, stage_key=key, run_id=run_id, survey=context.survey.name, dataset_digest=digest
    )
    stamps = PreparedDataset.open(prepared["prepared"]).dataset
    decision = decide_and_promote(
        settings, name, version, made["evaluation"], dataset_digest=digest, rescore=asker(settings, name, stamps)
    )
    return {"name": name, "version": version, "decision": decision.sentence}
