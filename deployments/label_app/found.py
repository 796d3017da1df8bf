"""What a search has found: the ranked list, its files, the disputed galaxies, and the labels as a table."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from deployments.label_app.events import BEST, last_round
from deployments.label_app.pages import page
from deployments.label_app.people import Person
from deployments.label_app.results import ranked_rows, ranked_table
from deployments.label_app.searches import find_or_404
from deployments.label_app.security import KnownPerson
from deployments.label_app.service import Id, Service, service_of
from deployments.label_app.states import State, state_of
from tasks.search.export import export

router = APIRouter()

ON_A_PAGE = 60
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "vot": "application/x-votable+xml",
}


@router.get("/searches/{search_id}/results")
async def show_results(
    request: Request,
    search_id: Id,
    person: KnownPerson,
    number: Annotated[int, Query(ge=1, le=100_000, alias="page")] = 1,
    show: Literal["all", "unlabelled"] = "all",
) -> Response:
    """The galaxies, the likeliest first, a page at a time: all, or those that nobody has said anything of."""
    service = service_of(request)

    def work() -> tuple[State, list[dict[str, object]], int, int]:
        state = learnt_state(service, search_id, person)
        rows, probabilities = ranked_rows(service, state)
        verdicts, first = state.labels.verdicts(), (number - 1) * ON_A_PAGE
        ranks = np.arange(1, len(rows) + 1)
        if show == "unlabelled":
            free = ~np.isin(rows, state.labels.answered())
            rows, probabilities, ranks = rows[free], probabilities[free], ranks[free]
        some, held = slice(first, first + ON_A_PAGE), set(state.held.tolist())
        galaxies = [
            {
                "rank": rank,
                "row": row,
                "object_id": state.catalogue.object_id(row),
                "probability": probability,
                "label": verdicts.get(row, ""),
                "held_back": row in held,
            }
            for rank, row, probability in zip(
                ranks[some].tolist(), rows[some].tolist(), probabilities[some].tolist(), strict=True
            )
        ]
        with service.database.reading() as session:
            last = last_round(session, search_id, person.name, BEST)
        return state, galaxies, -(-len(rows) // ON_A_PAGE), 0 if last is None else last.number

    state, galaxies, pages, sheets = await service.learners.run(work)
    return page(
        request,
        "results.html",
        search=state.search,
        galaxies=galaxies,
        number=number,
        pages=pages,
        show=show,
        sheets=sheets,
    )


@router.get("/searches/{search_id}/results.{form}")
async def export_results(
    request: Request, search_id: Id, form: Literal["csv", "parquet", "vot"], person: KnownPerson
) -> Response:
    """The whole ranked list as a file."""
    service = service_of(request)

    def work() -> bytes:
        state = learnt_state(service, search_id, person)
        return export(ranked_table(service, state), form)

    name = f"search-{search_id}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(await service.learners.run(work), media_type=MEDIA_TYPES[form], headers=headers)


def learnt_state(service: Service, search_id: int, person: Person) -> State:
    """The state of a search that something is wanted in.

    Raises
    ------
    GalaxyError
        If nothing is: then there is no learner, and no list.
    """
    with service.database.reading() as session:
        find_or_404(session, search_id)
        state = state_of(service, session, search_id, person)
    state.require_wanted()
    return state
