"""What a flow leaves in the Prefect UI: a live progress bar, the stage's result, and the way to MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State, TaskRun

from infra.progress import StageProgress, listening

T = TypeVar("T")

SECONDS_BETWEEN_UPDATES = 10.0


@contextmanager
def progress_shown(stage: str) -> Iterator[None]:
    """Keep one progress artifact of `stage` up to date, at most every ten seconds, while the context lasts."""
    logger = get_run_logger()
    artifact = create_progress_artifact(progress=0.0, key=f"{stage}-progress", description=f"progress of {stage}")
    assert isinstance(artifact, UUID)
    updated = time.monotonic()

    def update(report: StageProgress) -> None:
        nonlocal updated
        if report.stage != stage or time.monotonic() - updated < SECONDS_BETWEEN_UPDATES:
            return
        updated = time.monotonic()
        update_progress_artifact(artifact, progress=100.0 * report.done / max(report.total, 1), description=report.note)
        logger.info("%s of %s, %s", report.done, report.total, report.note)

    with listening(update):
        yield
    update_progress_artifact(artifact, progress=100.0, description=f"{stage} is done")


def reported(stage: str, step: Task[[T], dict[str, Any]], given: T) -> dict[str, Any]:
    """Run one stage's task with its progress shown, and publish what it returned; `given` is a chain, or a search."""
    with progress_shown(stage):
        result = step.with_options(retries=2, retry_delay_seconds=5, retry_condition_fn=_may_pass_next_time)(given)
    publish_result(stage, result)
    get_run_logger().info(
        "%s is %s: %s", stage, "skipped, done before" if result.get("skipped") else "done", result["folder"]
    )
    return result


def publish_result(stage: str, result: Mapping[str, Any]) -> None:
    """Write the stage's result as an artifact, with a link to its MLflow run where a page shows it."""
    lines = [f"## {stage}", "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in sorted(_flat(result).items())]
    create_markdown_artifact("\n".join(lines), key=f"{stage}-result", description=f"result of {stage}")
    page = result.get("mlflow_page", "")
    if page:
        create_link_artifact(link=page, link_text=f"MLflow run of {stage}", key=f"{stage}-mlflow")
    if "report" in result:
        publish_report(stage, Path(result["report"]), page, str(result.get("mlflow_run", "")))


def publish_report(stage: str, report: Path, page: str, run_id: str) -> None:
    """Show the stage's report, a picture among its figures: by MLflow where it has a page, else where it lies."""
    key, text = f"{stage}-report", f"report of {stage}"
    server, _, shown = page.partition("/#/")
    if shown:
        query = urlencode({"path": f"figures/{report.name}", "run_uuid": run_id})
        create_image_artifact(image_url=f"{server}/get-artifact?{query}", key=key, description=text)
    else:
        create_link_artifact(link=report.as_uri(), link_text=text, key=key)


def _may_pass_next_time(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry what a disk or a network did; never what the user must mend. A retry carries on, it does not begin anew."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            flat.update(_flat(item, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
