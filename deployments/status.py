"""What there is: datasets, stages, models and catalogues, gathered from the home folder and MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.environment import running_services
from infra.settings import Settings
from tasks.track.registry import list_models


def collect_status(settings: Settings) -> dict[str, Any]:
    """Everything `galaxy status` shows, as JSON values."""
    stages = []
    for folder in sorted(settings.stages.glob("*/*-*")):
        result_file = folder / "result.json"
        result = json.loads(result_file.read_text()) if result_file.is_file() else None
        stages.append(
            {
                "survey": folder.parent.name,
                "stage": folder.name.rpartition("-")[0],
                "state": "done" if result else "unfinished",
                "where": str(folder),
                "result": result,
            }
        )
    return {
        "home": str(settings.home),
        "mlflow": settings.mlflow_uri,
        "services": running_services(settings),
        "stages": stages,
        "models": list_models(settings),
        "catalogues": [str(path) for path in sorted(settings.catalogues.glob("*/*/predictions.parquet"))],
    }


def print_status(console: Console, content: dict[str, Any]) -> None:
    """Show the same as tables."""
    home = Path(content["home"])
    console.print(f"home {home}", highlight=False, soft_wrap=True)
    services = ", ".join(f"{name} {address}" for name, address in content["services"].items())
    console.print(f"services {services or 'not running; `galaxy up` starts them'}", highlight=False)
    console.print(_stages(content["stages"], home) if content["stages"] else "no stage has run yet: `galaxy run`")
    if content["models"]:
        console.print(_models(content["models"]))
    for path in content["catalogues"]:
        console.print(f"catalogue {path}", highlight=False, soft_wrap=True)


def _stages(stages: list[dict[str, Any]], home: Path) -> Table:
    table = Table("survey", "stage", "state", "what", title="stages", title_justify="left")
    table.add_column("where, in the home folder", overflow="fold")
    for stage in stages:
        result = stage["result"] or {}
        if "headline" in result:
            what = f"{result['headline']} {result['metrics'].get(result['headline'], float('nan')):.3f}"
        elif "accepted" in result:
            what = f"{result['accepted']} of {result['objects']} objects"
        elif "rows" in result:
            what = f"{result['rows']} rows"
        else:
            what = ""
        table.add_row(
            stage["survey"], stage["stage"], stage["state"], what, str(Path(stage["where"]).relative_to(home))
        )
    return table


def _models(models: list[dict[str, Any]]) -> Table:
    table = Table("model", "version", "aliases", "headline", title="models", title_justify="left")
    for model in models:
        table.add_row(model["name"], str(model["version"]), ", ".join(model["aliases"]), model.get("headline", ""))
    return table
