"""What becomes of a search: its labels as a table, its learner over the whole catalogue, a classifier trained on it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Form, Request, Response
from sqlalchemy import select
from starlette.responses import RedirectResponse

from deployments.label_app.flow_runs import FlowRuns
from deployments.label_app.found import learnt_state
from deployments.label_app.pages import page
from deployments.label_app.people import Person
from deployments.label_app.searches import find_or_404
from deployments.label_app.security import KnownAdmin, KnownPerson
from deployments.label_app.service import Id, Service, service_of
from deployments.label_app.states import State
from deployments.label_app.tables import Search, StartedRun
from tasks.search.labels import PublishedLabels, publish_labels
from tasks.search.lesson import Lesson

router = APIRouter()

LABELS = "label/tables"
SCORE, TRAIN = "score-search", "survey-run"
TRAINING_STAGES = "ingest,preprocess,pretrain,finetune"
"""A new label table means new folders for all of them: `finetune` alone would find nothing to read."""


@router.get("/searches/{search_id}/runs")
async def show_runs(request: Request, search_id: Id, person: KnownPerson) -> Response:
    """The flow runs that were started for a search, with what Prefect says of them."""
    service = service_of(request)
    return page(request, "runs.html", tables=[], **await service.learners.run(_runs, service, search_id))


@router.post("/searches/{search_id}/labels")
async def publish(request: Request, search_id: Id, person: KnownPerson) -> Response:
    """Write the undisputed labels as tables that a survey definition can name, and show what to write into it."""
    service = service_of(request)
    tables = await service.learners.run(_publish, service, search_id, person)
    return page(request, "runs.html", tables=tables, **await service.learners.run(_runs, service, search_id))


@router.post("/searches/{search_id}/score")
async def score_catalogue(request: Request, search_id: Id, person: KnownAdmin) -> Response:
    """Start the flow that registers the learner and scores every galaxy of the catalogue."""
    service = service_of(request)
    await service.learners.run(_score, service, search_id, person)
    return RedirectResponse(f"/searches/{search_id}/runs", status_code=303)


@router.post("/searches/{search_id}/train")
async def train_classifier(
    request: Request,
    search_id: Id,
    person: KnownAdmin,
    survey: Annotated[str, Form(min_length=1, max_length=400)],
    profile: Annotated[str, Form(min_length=1, max_length=400)] = "laptop",
) -> Response:
    """Start the stages up to `finetune` with a survey definition that names the labels; what is done is skipped."""
    service = service_of(request)
    parameters = {"survey": survey, "profile": profile, "stages": TRAINING_STAGES}
    await service.learners.run(_start, service, search_id, person, TRAIN, parameters)
    return RedirectResponse(f"/searches/{search_id}/runs", status_code=303)


def plain_name(search: Search) -> str:
    """The search's name in small letters, digits and hyphens, with its number, so that no two are alike."""
    letters = re.sub(r"[^a-z0-9]+", "-", search.name.lower())[:30].strip("-")
    return f"{letters or 'search'}-{search.id}"


def _publish(service: Service, search_id: int, person: Person) -> list[PublishedLabels]:
    state = learnt_state(service, search_id, person)
    rows, wanted = state.teaching.rows, state.teaching.wanted
    sources = state.catalogue.prepared.columns(["source"])["source"].to_numpy(object)[rows]
    labels = pd.DataFrame(
        {
            "object_id": [state.catalogue.object_id(int(row)) for row in rows],
            "source": sources,
            "wanted": wanted,
            "labelled_by": [_who(state, int(row)) for row in rows],
            "stamp_digest": [service.pictures.digest(state.catalogue, int(row)) for row in rows],
        }
    )
    return publish_labels(service.settings.home / LABELS, plain_name(state.search).replace("-", "_"), labels)


def _who(state: State, row: int) -> str:
    return ", ".join(sorted(name for name, rows in state.labels.of_person.items() if row in rows))


def _score(service: Service, search_id: int, person: Person) -> None:
    state = learnt_state(service, search_id, person)
    lesson = Lesson(
        name=plain_name(state.search),
        owner=state.search.owner,
        catalogue=state.catalogue.folder,
        dataset_digest=state.search.dataset_digest,
        model=state.search.model,
        model_version=state.search.model_version,
        seed=state.search.seed,
        object_id=tuple(state.catalogue.object_id(int(row)) for row in state.teaching.rows),
        wanted=tuple(state.teaching.wanted.tolist()),
        reasons=state.teaching.reasons,
    )
    path = lesson.save(service.settings)
    _start(service, search_id, person, SCORE, {"search": str(path)})


def _start(service: Service, search_id: int, person: Person, flow: str, parameters: dict[str, str]) -> None:
    with service.database.reading() as session:
        find_or_404(session, search_id)
    flow_run_id = FlowRuns(service.settings).start(flow, parameters)
    with service.database.writing() as session:
        session.add(StartedRun(search_id=search_id, person=person.name, flow=flow, flow_run_id=flow_run_id))


def _runs(service: Service, search_id: int) -> dict[str, Any]:
    prefect = FlowRuns(service.settings)
    with service.database.reading() as session:
        search = find_or_404(session, search_id)
        chosen = select(StartedRun).where(StartedRun.search_id == search_id).order_by(StartedRun.id.desc()).limit(20)
        started = list(session.scalars(chosen))
    runs = [(run, prefect.state(run.flow_run_id), prefect.page(run.flow_run_id)) for run in started]
    return {
        "search": search,
        "runs": runs,
        "prefect": prefect.address,
        "registered": f"galaxy-search-{plain_name(search)}",
    }
