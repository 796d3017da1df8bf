"""The inference stage as Prefect tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.chain import MODELS, Chain
from tasks.run_stage import run_stage
from tasks.track.registry import resolve_for_survey


@task(name="resolve models", cache_policy=NO_CACHE)
def resolve_models(chain: Chain, alias: str) -> Chain:
    """Turn the alias into version numbers, once, so that a move in mid-run cannot split the catalogue.

    Models that nobody has trained are left out: a survey without lens labels has a catalogue all the same.
    """
    versions = {}
    for stage, name in MODELS.items():
        own = (chain.result(stage) or {}).get("registered", {}).get("version")
        version = resolve_for_survey(chain.settings, name, alias, chain.survey.name, own)
        if version is not None:
            versions[name] = version
    return replace(chain, models=versions)


@task(name="infer", cache_policy=NO_CACHE)
def infer_catalogue(chain: Chain) -> dict[str, Any]:
    """Predict for every stamp and publish the catalogue."""
    return run_stage(chain, "infer")
