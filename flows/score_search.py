"""A search's labels in, every object's score and the model galaxy-search-NAME out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.parameters import SearchName
from flows.report import reported
from tasks.search.steps import score_catalogue


@flow(name="score-search", flow_run_name="score-search {search}")
def score_search(search: SearchName) -> dict[str, Any]:
    """Score the whole catalogue with what a search has learnt, and register the learner.

    Args:
        search: Name of a search, whose newest labels are learnt, or the path of a lesson that a search has written.
    """
    return reported("score-search", score_catalogue, search)
