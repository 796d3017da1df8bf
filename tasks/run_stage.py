"""Runs one stage: skipped if done, carried on if begun, tracked, registered, and marked as done at the very end."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from prefect.runtime import flow_run

from infra.errors import GalaxyError
from infra.progress import progress_of
from infra.remote import exists
from tasks.chain import MODELS, Chain
from tasks.stage import StageContext
from tasks.track.gate import decide_and_promote
from tasks.track.registry import register
from tasks.track.runs import FlowRun, find_survey_run, stage_run

Work = Callable[[StageContext], Mapping[str, Any]]

WORK: Mapping[str, str] = {
    "ingest": "tasks.ingest.ingest:ingest",
    "preprocess": "tasks.preprocess.prepare:preprocess",
    "pretrain": "tasks.train.pretrain:pretrain",
    "finetune": "tasks.train.finetune:finetune",
    "align": "tasks.train.align:align",
    "find-lenses": "tasks.train.find_lenses:find_lenses",
    "infer": "tasks.infer.infer:infer",
}
"""The `Work` of each stage. It is imported when there is something to do: PyTorch and Lightning take seconds, which a
run whose stages are done, a deployment or a message about a wrong name need not wait for."""


def run_stage(chain: Chain, stage: str) -> dict[str, Any]:
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
            work: Work = resolve_name(WORK[stage])
            with mendable_errors(stage, folder.path):
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
def mendable_errors(stage: str, folder: Path) -> Iterator[None]:
    """What the user can mend, raised by code that knows no users, as the error that is shown as a message."""
    try:
        yield
    except GalaxyError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise GalaxyError(
            f"stage {stage}: no space left for {folder}; what is finished is kept. Free some space and run again"
        ) from error
    except Exception as error:
        if isinstance(error, _errors_of_training()):
            raise GalaxyError(f"stage {stage}: {error}") from error
        raise


def _errors_of_training() -> tuple[type[Exception], ...]:
    from galaxy_models.card import CardError
    from galaxy_models.checkpoint import CheckpointError
    from galaxy_models.training import BatchTooLargeError, DivergedError

    return BatchTooLargeError, CardError, CheckpointError, DivergedError


def _register(context: StageContext, stage: str, key: str, made: Mapping[str, Any], run_id: str) -> dict[str, str]:
    from tasks.preprocess.prepared import PreparedDataset
    from tasks.track.scores import asker

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
