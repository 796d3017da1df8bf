"""Searches: their list, a new one, and the page of each."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, Response, UploadFile
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse

from deployments.label_app.catalogues import Catalogue
from deployments.label_app.events import KINDS, SEARCH, Stamp, add_examples, add_round, labels_of
from deployments.label_app.examples import LONGEST_TEXT, find_examples
from deployments.label_app.labels import ANSWERS, Labels
from deployments.label_app.pages import page
from deployments.label_app.people import Person
from deployments.label_app.results import agreements, tested_quality
from deployments.label_app.security import KnownPerson
from deployments.label_app.service import Id, Service, service_of
from deployments.label_app.sheets import first_sheet_of
from deployments.label_app.states import at_odds, remaining, state_of
from deployments.label_app.tables import NAME_LENGTH, WORDS_LENGTH, Description, Round, Search, Upload
from deployments.label_app.uploads import LARGEST_FILE, MOST_PICTURES, as_png, open_uploads
from galaxy_models.symbols import known_symbols
from galaxy_models.volunteer_answers import said_by_answers
from infra.errors import GalaxyError
from tasks.search.described import MODEL, has_aligned
from tasks.search.features import view_of

router = APIRouter()


@dataclass(frozen=True)
class Given:
    """What the form of a new search says, besides pictures."""

    name: str = ""
    catalogue: str = ""
    wanted: str = ""
    unwanted: str = ""
    words: str = ""
    symbol: str = ""


THRESHOLD = 0.5
WANTED_SHOWN, EXAMPLES_SHOWN = 16, 4
"""Galaxies that are wanted, on the page of a search, and examples among them at most."""


@router.get("/")
def list_searches(request: Request, person: KnownPerson) -> Response:
    """All searches, the newest first; or what to run where nothing can be searched."""
    service = service_of(request)
    with service.database.reading() as session:
        searches = list(session.scalars(select(Search).order_by(Search.id.desc())))
        sheets = session.execute(select(Round.search_id, func.count()).group_by(Round.search_id)).all()
        rounds = {search_id: count for search_id, count in sheets}
        counts = {search.id: labels_of(session, search.id).counts() for search in searches}
    empty = "" if service.library.folders() else service.library.explain_empty()
    return page(request, "searches.html", searches=searches, counts=counts, rounds=rounds, empty=empty)


@router.get("/searches/new")
def new_search(request: Request, person: KnownPerson) -> Response:
    """The form of a new search."""
    return _form(request, Given())


@router.post("/searches/new")
async def begin_search(
    request: Request,
    person: KnownPerson,
    name: Annotated[str, Form(max_length=400)] = "",
    catalogue: Annotated[str, Form(max_length=200)] = "",
    wanted: Annotated[str, Form(max_length=LONGEST_TEXT)] = "",
    unwanted: Annotated[str, Form(max_length=LONGEST_TEXT)] = "",
    words: Annotated[str, Form(max_length=4000)] = "",
    symbol: Annotated[str, Form(max_length=NAME_LENGTH)] = "",
    pictures: Annotated[list[UploadFile] | None, File()] = None,
) -> Response:
    """Make the search and show its first sheet; what cannot be taken is said above the form."""
    service = service_of(request)
    chosen = [one for one in pictures or [] if one.filename]  # an empty field is sent as a file without a name
    files = [(str(one.filename), await one.read(LARGEST_FILE + 1)) for one in chosen[: MOST_PICTURES + 1]]
    given = Given(name, catalogue, wanted, unwanted, words, symbol)
    try:
        search_id = await service.learners.run(_begin, service, person, given, files)
    except GalaxyError as error:
        return _form(request, given, 400, str(error))
    return RedirectResponse(f"/searches/{search_id}", status_code=303)


@router.get("/searches/{search_id}")
async def show_search(request: Request, search_id: Id, person: KnownPerson) -> Response:
    """How far a search is: labels, what is left, people, and the test."""
    service = service_of(request)
    content = await service.learners.run(_overview, service, search_id, person)
    return page(request, "search.html", **content)


def find_or_404(session: Session, search_id: int) -> Search:
    """A search; HTTP 404 if there is none."""
    search = session.get(Search, search_id)
    if search is None:
        raise HTTPException(404, f"there is no search {search_id}")
    return search


def _form(request: Request, given: Given, status: int = 200, problem: str = "") -> Response:
    library = service_of(request).library
    folders = library.folders()
    aligned = [folder for folder in folders if has_aligned(folder)]
    told = [name for name in known_symbols() if said_by_answers([name]) is not None]
    symbols = known_symbols() if aligned else told if any(view_of(folder).told for folder in folders) else []
    return page(
        request,
        "new.html",
        status,
        catalogues={folder.name: library.title(folder) for folder in folders},
        unaligned=[(library.title(folder), folder.parent.name) for folder in folders if folder not in aligned],
        words=bool(aligned),
        symbols=symbols,
        empty="" if folders else library.explain_empty(),
        problem=problem,
        given=given,
    )


def _begin(service: Service, person: Person, given: Given, files: Sequence[tuple[str, bytes]]) -> int:
    name = " ".join(given.name.split())
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise GalaxyError(f"a search needs a name of 1 to {NAME_LENGTH} printable characters; this has {len(name)}")
    catalogue = service.library.catalogue(given.catalogue)
    good, bad = find_examples(catalogue, given.wanted), find_examples(catalogue, given.unwanted)
    description = _description(catalogue, person, given)
    pictures = open_uploads(files, catalogue.prepared.dataset.stamp_size)
    both = sorted(set(good) & set(bad))
    if both:
        raise GalaxyError(f"{catalogue.object_id(both[0])} is given as wanted and as not wanted")
    search = Search(
        name=name,
        owner=person.name,
        survey=catalogue.survey,
        catalogue=catalogue.name,
        dataset_digest=catalogue.dataset_digest,
        model=catalogue.features.model,
        model_version=str(catalogue.features.model_version),
        seed=secrets.randbelow(2**31),
    )
    stamps = {answer: _named(service, catalogue, rows) for answer, rows in (("yes", good), ("no", bad))}
    begun = bool(pictures or description)
    first = first_sheet_of(service, search, catalogue, [*good, *bad], pictures, description) if begun else []
    try:
        with service.database.writing() as session:
            session.add(search)
            session.flush()
            for answer, some in stamps.items():
                add_examples(session, search, person.name, some, answer, f"begin-{search.id}")
            for picture in pictures:
                content = as_png(picture)
                digest = hashlib.sha256(content).hexdigest()
                session.add(Upload(search_id=search.id, person=person.name, picture=content, digest=digest))
            if description is not None:
                description.search_id = search.id
                session.add(description)
            if first:
                add_round(session, Round(search_id=search.id, person=person.name, kind=SEARCH, number=1), first)
    except IntegrityError:
        raise GalaxyError(f"there is a search {name!r} already; choose another name") from None
    return search.id


def _description(catalogue: Catalogue, person: Person, given: Given) -> Description | None:
    words, symbol = " ".join(given.words.split()), given.symbol
    if not words and not symbol:
        return None
    if len(words) > WORDS_LENGTH or not words.isprintable():
        raise GalaxyError(f"a description has at most {WORDS_LENGTH} printable characters; this has {len(words)}")
    if symbol and symbol not in known_symbols():
        raise GalaxyError(f"no symbol {symbol!r}; choose one of those shown")
    if not words and catalogue.tells(symbol):
        model, version = catalogue.features.model, str(catalogue.features.model_version)
    else:
        model, version = MODEL, str(catalogue.aligned.model_version)
    return Description(person=person.name, words=words, symbol=symbol, model=model, model_version=version)


def _named(service: Service, catalogue: Catalogue, rows: list[int]) -> list[Stamp]:
    return [Stamp(row, catalogue.object_id(row), service.pictures.digest(catalogue, row)) for row in rows]


def _overview(service: Service, search_id: int, person: Person) -> dict[str, Any]:
    with service.database.reading() as session:
        search = find_or_404(session, search_id)
        state = state_of(service, session, search_id, person)
        tested = labels_of(session, search_id, test=True)
        sheets = list(session.scalars(select(Round).where(Round.search_id == search_id).order_by(Round.id)))
    enough = state.teaching.is_enough
    mine = {kind: [sheet for sheet in sheets if (sheet.person, sheet.kind) == (person.name, kind)] for kind in KINDS}
    return {
        "search": search,
        "state": state,
        "counts": state.labels.counts(),
        "left": remaining(service, state) if enough else None,
        "wanted": _wanted_by(state.labels, person)[:WANTED_SHOWN],
        "at_odds": len(at_odds(service, state, person)[0]) if enough else 0,
        "galaxies": int(state.catalogue.searchable.sum()),
        "mine": mine,
        "people": _people(state.labels),
        "agreements": agreements(state.labels),
        "tested": tested.counts(),
        "quality": tested_quality(service, state, tested, THRESHOLD),
        "others_labelled": any(name != person.name for name in state.labels.of_person),
    }


def _wanted_by(labels: Labels, person: Person) -> list[int]:
    """Rows that are wanted: some that the search began with, then what this person found, of the newest sheet first.

    What others found is not told: a second opinion is to be one's own.
    """
    own = labels.of_person.get(person.name, {})
    wanted = [row for row, said in labels.verdicts().items() if said == "yes"]
    examples = [row for row in wanted if labels.rounds[row] is None]
    found = [row for row in wanted if labels.rounds[row] is not None and own.get(row) == "yes"]
    return examples[:EXAMPLES_SHOWN] + sorted(found, key=lambda row: labels.rounds[row] or 0, reverse=True)


def _people(labels: Labels) -> list[tuple[str, dict[str, int]]]:
    return [
        (name, {answer: list(rows.values()).count(answer) for answer in ANSWERS})
        for name, rows in sorted(labels.of_person.items())
    ]
