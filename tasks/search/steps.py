"""The scoring of a search as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from infra.progress import progress_of
from infra.settings import Settings
from tasks.track.runs import FlowRun


@task(name="score-search", cache_policy=NO_CACHE)
def score_catalogue(search: str) -> dict[str, Any]:
    """Score the whole catalogue with a search's learner, and register the learner."""
    from tasks.search.score import STAGE, score_search  # with PyTorch, which a deployment need not wait for

    this_run = FlowRun(str(flow_run.id or ""), str(flow_run.ui_url or ""))
    return score_search(Settings.from_environment(), search, progress=progress_of(STAGE), flow=this_run)
