"""The sheet and its votes: the loop of a search."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse

from deployments.label_app.events import (
    BEST,
    CHECK,
    SEARCH,
    labels_in,
    labels_of,
    likely_wanted,
    round_before,
    shown_in,
    undo,
    vote,
)
from deployments.label_app.labels import TEST, Labels
from deployments.label_app.pages import page
from deployments.label_app.people import Person
from deployments.label_app.security import KnownPerson
from deployments.label_app.service import LARGEST_ID, Id, Service, service_of
from deployments.label_app.sheets import next_round
from deployments.label_app.tables import Round, Search, Shown

router = APIRouter()

RequestKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{8,40}$")]
MUCH = 10
"""Wanted galaxies found, before which a sheet that brings little is a poor start and no end."""

ENOUGH = 5
"""Answers to likely galaxies that say something of a sheet."""

REASON_TITLES = {
    "best": "likeliest",
    "uncertain": "uncertain",
    "diverse": "different",
    "random": "random",
    "words": "by your words",
    "symbol": "by your symbol",
    "said_yes": "you said yes",
    "said_no": "you said no",
    "review": "second opinion",
    "test": "test",
}


class NewVote(BaseModel):
    """What somebody says of the stamp at a place of their sheet."""

    model_config = ConfigDict(extra="forbid")
    place: int = Field(ge=0, le=63)
    answer: Literal["yes", "no", "unsure", "skip"]
    key: RequestKey


class KeyOnly(BaseModel):
    """A request that is to count once."""

    model_config = ConfigDict(extra="forbid")
    key: RequestKey


class Rest(KeyOnly):
    """What somebody says of all that they have said nothing of."""

    answer: Literal["yes", "no"]


@router.post("/searches/{search_id}/rounds")
async def make_round(
    request: Request,
    search_id: Id,
    person: KnownPerson,
    kind: Annotated[Literal["search", "best", "check", "review", "test"], Form()] = "search",
    after: Annotated[int, Form(ge=0, le=LARGEST_ID)] = 0,
) -> Response:
    """The next sheet, chosen in one of the learners' threads."""
    service = service_of(request)
    round_id = await service.learners.run(next_round, service, search_id, person, kind, after)
    return RedirectResponse(f"/rounds/{round_id}", status_code=303)


@router.get("/rounds/{round_id}")
def show_round(request: Request, round_id: Id, person: KnownPerson) -> Response:
    """The sheet with all that was said of it so far."""
    service = service_of(request)
    with service.database.reading() as session:
        sheet, search = _sheet_of(session, round_id, person)
        shown, answers = shown_in(session, round_id), labels_in(session, sheet)
        labels = labels_of(session, search.id, test=sheet.kind == TEST)
        nearly_done = sheet.kind in (SEARCH, BEST) and _brought_little(session, sheet, labels)
    here = {one.row for one in shown}
    elsewhere = Counter(verdict for row, verdict in labels.verdicts().items() if row not in here)
    stamps = [
        {
            "place": one.place,
            "row": one.row,
            "object_id": one.object_id,
            "reason": one.reason,
            "reason_title": REASON_TITLES[one.reason],
            "probability": one.probability,
            "answer": answers.get(one.row, ""),
        }
        for one in shown
    ]
    return page(
        request,
        "round.html",
        search=search,
        sheet=sheet,
        stamps=stamps,
        counts=elsewhere,
        nearly_done=nearly_done,
    )


@router.post("/rounds/{round_id}/votes")
def cast_vote(request: Request, round_id: Id, new: NewVote, person: KnownPerson) -> dict[str, Any]:
    """One vote; it is on the disk before the answer leaves."""
    service = service_of(request)
    with service.database.reading() as session:
        sheet, search = _sheet_of(session, round_id, person)
        shown = session.get(Shown, (round_id, new.place))
        if shown is None:
            last = len(shown_in(session, round_id)) - 1
            raise HTTPException(422, f"place {new.place}: the sheet has places 0 to {last}")
    vote(service.database, search, [(sheet, shown)], new.answer, new.key)
    return {"place": new.place, "answer": new.answer}


@router.post("/rounds/{round_id}/rest")
def answer_the_rest(request: Request, round_id: Id, new: Rest, person: KnownPerson) -> dict[str, Any]:
    """The same answer for each stamp of the sheet that nothing was said of."""
    service = service_of(request)
    sheet, search, shown, answers = _own_sheet(service, round_id, person)
    if sheet.kind == CHECK:
        raise HTTPException(400, "on a second look, what is left without an answer keeps the one it had")
    rest = [one for one in shown if one.row not in answers]
    if rest:
        vote(service.database, search, [(sheet, one) for one in rest], new.answer, new.key)
    return {"places": [one.place for one in rest], "answer": new.answer}


@router.post("/rounds/{round_id}/undo")
def take_back(request: Request, round_id: Id, new: KeyOnly, person: KnownPerson) -> dict[str, Any]:
    """Take back the last vote of the sheet; says what holds of that stamp now."""
    service = service_of(request)
    sheet, search, shown, _ = _own_sheet(service, round_id, person)
    undone = undo(service.database, search, sheet, new.key)
    if undone is None:
        return {"place": None, "answer": None}
    with service.database.reading() as session:
        answer = labels_in(session, sheet).get(undone.row)
    [place] = [one.place for one in shown if one.row == undone.row]
    return {"place": place, "answer": answer}


def _brought_little(session: Session, sheet: Round, labels: Labels) -> bool:
    """Whether much was found on sheets, and hardly any likely galaxy of the one before was wanted."""
    before = round_before(session, sheet)
    found = [row for row, said in labels.verdicts().items() if said == "yes" and labels.rounds[row] is not None]
    if before is None or len(found) < MUCH:
        return False
    wanted, answered = likely_wanted(session, before)
    return answered >= ENOUGH and wanted <= answered // 4


def _own_sheet(service: Service, round_id: int, person: Person) -> tuple[Round, Search, list[Shown], dict[int, str]]:
    with service.database.reading() as session:
        sheet, search = _sheet_of(session, round_id, person)
        return sheet, search, shown_in(session, round_id), labels_in(session, sheet)


def _sheet_of(session: Session, round_id: int, person: Person) -> tuple[Round, Search]:
    sheet = session.get(Round, round_id)
    search = session.get(Search, sheet.search_id) if sheet is not None else None
    if sheet is None or search is None:
        raise HTTPException(404, f"there is no sheet {round_id}")
    if sheet.person != person.name:
        raise HTTPException(403, f"sheet {round_id} was made for {sheet.person}; start one of your own")
    return sheet, search
