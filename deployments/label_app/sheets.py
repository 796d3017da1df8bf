"""What a person is shown next: chosen by the learner, at random, from what others have labelled, or for the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deployments.label_app.catalogues import Catalogue
from deployments.label_app.events import (
    REVIEW,
    SEARCH,
    Stamp,
    add_round,
    first_examples,
    labels_of,
    last_round,
)
from deployments.label_app.labels import OPINIONS, TEST, Labels, labels_digest
from deployments.label_app.learning import Teaching
from deployments.label_app.people import Person
from deployments.label_app.sampling import held_back, in_random_order
from deployments.label_app.service import Service
from deployments.label_app.tables import Description, Round, Search, Shown
from deployments.label_app.uploads import as_stamps
from galaxy_models.preference import EXAMPLE, REASONS, Remaining
from infra.errors import GalaxyError

STAMPS = 16
"""On a sheet."""

WORDS, SYMBOL = "words", "symbol"
"""Why a galaxy is shown that fits what somebody said."""

TAUGHT_AS = {WORDS: "best", SYMBOL: "best"}
"""Reasons by which the learner takes such answers: chosen for what was known of them, not for the answer."""


@dataclass(frozen=True)
class Choice:
    """The stamps of a sheet: (k,) rows, why each is shown, and how likely it seems, if a learner has chosen it."""

    rows: NDArray[np.int64]
    reasons: Sequence[str]
    chances: Sequence[float | None]


@dataclass(frozen=True)
class State:
    """All that the choice of the next sheet depends on.

    Attributes
    ----------
    labels
        For training; those of the test for a test sheet.
    held
        Rows that are held back for the test, in their order.
    seen
        Rows that the person was shown before on sheets of this kind.
    at_hand
        Rows on the last sheets of other people.
    description
        What the search was begun with, which leads until something is wanted; None without.
    """

    search: Search
    catalogue: Catalogue
    labels: Labels
    teaching: Teaching
    held: NDArray[np.int64]
    seen: NDArray[np.int64]
    at_hand: NDArray[np.int64]
    description: Description | None = None


def next_round(service: Service, search_id: int, person: Person, kind: str, after: int) -> int:
    """Make the sheet that comes after number `after`, and give its id; one that is there already is not made again.

    Raises
    ------
    GalaxyError
        If there is no such search, or nothing is left to show.
    """
    with service.database.reading() as session:
        last = last_round(session, search_id, person.name, kind)
        if last is not None and last.number != after:
            return last.id
        state = _state(service, session, search_id, person, kind)
    new = Round(search_id=search_id, person=person.name, kind=kind)
    if kind == REVIEW:
        choice = _review(state, person)
    elif kind == TEST:
        choice = _test(state, person)
    elif state.teaching.is_enough:
        choice = _learnt(service, state, new)
    elif state.description is not None:
        choice = _next_fitting(service, state, state.description)
    else:
        choice = _random(state)
    try:
        with service.database.writing() as session:
            return add_round(session, new, _described(service, state.catalogue, choice)).id
    except IntegrityError:  # asked twice at once
        with service.database.reading() as session:
            made = last_round(session, search_id, person.name, kind)
        assert made is not None
        return made.id


def teaching_of(session: Session, search: Search, labels: Labels) -> Teaching:
    """What the labels teach: each with why it was shown, since only random ones tell how many are wanted."""
    rows, wanted = labels.wanted()
    chosen = select(Shown.round_id, Shown.row, Shown.reason).join(Round, Round.id == Shown.round_id)
    why: dict[tuple[int | None, int], str] = {
        (sheet, row): reason for sheet, row, reason in session.execute(chosen.where(Round.search_id == search.id))
    }
    reasons = [why.get((labels.rounds.get(int(row)), int(row)), EXAMPLE) for row in rows]
    return Teaching(
        rows,
        wanted,
        tuple(reason if reason in REASONS else EXAMPLE for reason in [TAUGHT_AS.get(one, one) for one in reasons]),
        labels_digest(rows, wanted, search.dataset_digest, search.model, search.model_version),
    )


def remaining(service: Service, state: State) -> Remaining:
    """How many wanted galaxies nobody has labelled yet."""
    answered = state.labels.answered()

    def estimate() -> Remaining:
        preference = service.learners.preference(state.search.id, state.catalogue, state.teaching, state.search.seed)
        return preference.remaining(exclude=np.union1d(np.flatnonzero(~state.catalogue.searchable), answered))

    found: Remaining = service.remaining.get((state.search.id, state.teaching.digest, answered.tobytes()), estimate)
    return found


def state_of(service: Service, session: Session, search_id: int, person: Person) -> State:
    """The state of training."""
    return _state(service, session, search_id, person, SEARCH)


def _state(service: Service, session: Session, search_id: int, person: Person, kind: str) -> State:
    search = session.get(Search, search_id)
    if search is None:
        raise GalaxyError(f"there is no search {search_id}")
    catalogue = service.library.catalogue(search.catalogue)
    training = labels_of(session, search_id)
    return State(
        search,
        catalogue,
        labels_of(session, search_id, test=True) if kind == TEST else training,
        teaching_of(session, search, training),
        service.held_back.get(
            search_id,
            lambda: held_back(search.seed, catalogue.searchable, catalogue.groups, first_examples(session, search_id)),
        ),
        _seen(session, search_id, person.name, kind),
        _at_hand(session, search_id, person.name),
        session.scalar(select(Description).where(Description.search_id == search_id)),
    )


def _seen(session: Session, search_id: int, person: str, kind: str) -> NDArray[np.int64]:
    chosen = select(Shown.row).join(Round, Round.id == Shown.round_id)
    mine = (Round.search_id == search_id, Round.person == person, Round.kind == kind)
    return np.array(session.scalars(chosen.where(*mine)).all(), np.int64)


def _at_hand(session: Session, search_id: int, person: str) -> NDArray[np.int64]:
    last = select(func.max(Round.id)).where(Round.search_id == search_id, Round.kind == SEARCH, Round.person != person)
    chosen = select(Shown.row).where(Shown.round_id.in_(last.group_by(Round.person)))
    return np.array(session.scalars(chosen).all(), np.int64)


def _closed(state: State) -> NDArray[np.int64]:
    """Rows that must not come on a sheet of the search."""
    nowhere = np.flatnonzero(~state.catalogue.searchable)
    parts = (nowhere, state.held, state.labels.answered(), state.seen, state.at_hand)
    return np.unique(np.concatenate(parts)).astype(np.int64)


def first_sheet_of(
    service: Service,
    search: Search,
    catalogue: Catalogue,
    examples: Sequence[int],
    pictures: Sequence[Image.Image],
    description: Description | None,
) -> list[tuple[Stamp, str, float | None]]:
    """The galaxies that look most like some pictures to the model, or fit a description best, each one's in turn."""
    held = held_back(search.seed, catalogue.searchable, catalogue.groups, examples)
    without = [*examples, *held.tolist()]
    found: list[tuple[list[int], str]] = []
    if pictures:
        vectors = service.models.embed(catalogue, as_stamps(pictures))
        found += [(catalogue.neighbours(vector, STAMPS, without).tolist(), "best") for vector in vectors]
    if description is not None:
        found.append((_fitting(service, catalogue, description, without).tolist(), reason_of(description)))
    turns = zip_longest(*([(row, reason) for row in rows] for rows, reason in found))
    reasons: dict[int, str] = {}
    for row, reason in (one for turn in turns for one in turn if one is not None):
        reasons.setdefault(row, reason)
    rows = list(reasons)[:STAMPS]
    choice = Choice(np.array(rows, np.int64), [reasons[row] for row in rows], [None] * len(rows))
    return _described(service, catalogue, choice)


def reason_of(description: Description) -> str:
    """Why a galaxy that fits a description is shown."""
    return WORDS if description.words else SYMBOL


def _fitting(
    service: Service, catalogue: Catalogue, description: Description, without: Sequence[int]
) -> NDArray[np.int64]:
    if description.model == catalogue.features.model:  # which tells the symbol's class by itself
        return catalogue.likeliest(description.symbol, STAMPS, without)
    vector = service.models.describe(catalogue, description.words, description.symbol)
    return catalogue.best_fitting(vector, STAMPS, without)


def _learnt(service: Service, state: State, new: Round) -> Choice:
    preference = service.learners.preference(state.search.id, state.catalogue, state.teaching, state.search.seed)
    sheet = preference.propose(STAMPS, exclude=_closed(state), groups=state.catalogue.groups)
    left = remaining(service, state)
    new.learner = state.teaching.digest
    new.left, new.left_low, new.left_high = left.expected, left.low, left.high
    chances = preference.probabilities(sheet.rows)
    return Choice(_not_empty(sheet.rows, "every galaxy has been shown"), sheet.reasons, chances.tolist())


def _next_fitting(service: Service, state: State, description: Description) -> Choice:
    """What fits the description best of all that was not shown yet."""
    rows = _fitting(service, state.catalogue, description, _closed(state).tolist())
    return _unmarked(rows, reason_of(description), "every galaxy that can be compared with the description was shown")


def _random(state: State) -> Choice:
    rows = np.flatnonzero(state.catalogue.searchable).astype(np.int64)
    groups = state.catalogue.groups
    rows = in_random_order(state.search.seed, rows[~np.isin(groups[rows], groups[_closed(state)])])
    _, first = np.unique(groups[rows], return_index=True)
    return _unmarked(rows[np.sort(first)], "random", "every galaxy has been shown")


def _review(state: State, person: Person) -> Choice:
    """Stamps that others have said yes or no of, and this person nothing; not told what they said."""
    of_others = [rows for name, rows in state.labels.of_person.items() if name != person.name]
    said = {row for rows in of_others for row, answer in rows.items() if answer in OPINIONS}
    left = said - set(state.labels.of_person.get(person.name, {})) - set(state.seen.tolist())
    rows = in_random_order(state.search.seed, np.array(sorted(left), np.int64))
    return _unmarked(rows, REVIEW, "you have seen all that others have labelled in this search")


def _test(state: State, person: Person) -> Choice:
    """The next of the held-back sample, in its order: leaving one out would make it a sample of something else."""
    answered = list(state.labels.of_person.get(person.name, {}))
    rows = state.held[~np.isin(state.held, answered)]
    return _unmarked(rows, TEST, f"you have labelled all {len(state.held)} galaxies that are held back for the test")


def _unmarked(rows: NDArray[np.int64], reason: str, explanation: str) -> Choice:
    rows = _not_empty(rows, explanation)[:STAMPS]
    return Choice(rows, [reason] * len(rows), [None] * len(rows))


def _not_empty(rows: NDArray[np.int64], explanation: str) -> NDArray[np.int64]:
    if not len(rows):
        raise GalaxyError(f"{explanation}; there is nothing left for another sheet")
    return rows


def _described(service: Service, catalogue: Catalogue, choice: Choice) -> list[tuple[Stamp, str, float | None]]:
    stamps = [
        Stamp(row, catalogue.object_id(row), service.pictures.digest(catalogue, row)) for row in choice.rows.tolist()
    ]
    return list(zip(stamps, choice.reasons, choice.chances, strict=True))
