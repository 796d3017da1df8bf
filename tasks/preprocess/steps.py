"""The preprocess stage as a Prefect task."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.chain import Chain
from tasks.run_stage import run_stage


@task(name="preprocess", cache_policy=NO_CACHE)
def prepare_stamps(chain: Chain) -> dict[str, Any]:
    """Measure, flag, group and split the stamps."""
    return run_stage(chain, "preprocess")
