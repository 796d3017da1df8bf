"""The training stages as Prefect tasks."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.chain import Chain
from tasks.run_stage import run_stage


@task(name="pretrain", cache_policy=NO_CACHE)
def pretrain_model(chain: Chain) -> dict[str, Any]:
    """Train the large vision model without labels."""
    return run_stage(chain, "pretrain")


@task(name="finetune", cache_policy=NO_CACHE)
def finetune_model(chain: Chain) -> dict[str, Any]:
    """Train the morphology model on all labelled tasks."""
    return run_stage(chain, "finetune")


@task(name="align", cache_policy=NO_CACHE)
def align_model(chain: Chain) -> dict[str, Any]:
    """Train GalaxAlign: images, symbols and texts."""
    return run_stage(chain, "align")


@task(name="find-lenses", cache_policy=NO_CACHE)
def train_lens_finder(chain: Chain) -> dict[str, Any]:
    """Train the lens finder."""
    return run_stage(chain, "find-lenses")
