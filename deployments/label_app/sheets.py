"""The next sheet of a person: chosen, and written down before it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from sqlalchemy.exc import IntegrityError

from deployments.label_app import choices
from deployments.label_app.catalogues import Catalogue
from deployments.label_app.choices import Choice
from deployments.label_app.events import BEST, CHECK, REVIEW, Stamp, add_round, last_round
from deployments.label_app.labels import TEST
from deployments.label_app.people import Person
from deployments.label_app.sampling import held_back
from deployments.label_app.service import Service
from deployments.label_app.states import State, remaining, state_of
from deployments.label_app.tables import Description, Round, Search


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
        state = state_of(service, session, search_id, person, kind)
    number = 1 if last is None else last.number + 1
    new = Round(search_id=search_id, person=person.name, kind=kind, number=number)
    choice = _chosen(service, state, person, kind)
    if state.teaching.is_enough and kind not in (REVIEW, TEST):
        left = remaining(service, state)
        new.learner = state.teaching.digest
        new.left, new.left_low, new.left_high = left.expected, left.low, left.high
    try:
        with service.database.writing() as session:
            return add_round(session, new, _named(service, state.catalogue, choice)).id
    except IntegrityError:  # asked twice at once
        with service.database.reading() as session:
            made = last_round(session, search_id, person.name, kind)
        assert made is not None
        return made.id


def first_sheet_of(
    service: Service,
    search: Search,
    catalogue: Catalogue,
    examples: Sequence[int],
    pictures: Sequence[Image.Image],
    description: Description | None,
) -> list[tuple[Stamp, str, float | None]]:
    """What looks like some pictures or fits a description, for a search that is begun so."""
    held = held_back(search.seed, catalogue.searchable, catalogue.groups, examples)
    without = [*examples, *held.tolist()]
    return _named(service, catalogue, choices.first_fitting(service, catalogue, without, pictures, description))


def _chosen(service: Service, state: State, person: Person, kind: str) -> Choice:
    if kind == REVIEW:
        return choices.labelled_by_others(state, person)
    if kind == TEST:
        return choices.next_of_test(state, person)
    if kind in (BEST, CHECK):
        state.require_wanted()
        return choices.likeliest(service, state) if kind == BEST else choices.doubted(service, state, person)
    if state.teaching.is_enough:
        return choices.proposed(service, state)
    if state.description is not None:
        return choices.next_fitting(service, state, state.description)
    return choices.at_random(state)


def _named(service: Service, catalogue: Catalogue, choice: Choice) -> list[tuple[Stamp, str, float | None]]:
    stamps = [
        Stamp(row, catalogue.object_id(row), service.pictures.digest(catalogue, row)) for row in choice.rows.tolist()
    ]
    return list(zip(stamps, choice.reasons, choice.chances, strict=True))
