"""The ingest stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.chain import Chain
from tasks.run_stage import run_stage


@task(name="ingest", cache_policy=NO_CACHE)
def ingest_stamps(chain: Chain) -> dict[str, Any]:
    """Cut, draw or read every stamp of the catalogue into the store."""
    return run_stage(chain, "ingest")
