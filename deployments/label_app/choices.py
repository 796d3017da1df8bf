"""Which galaxies a sheet shows: what the learner or a description proposes, random ones, or what people have said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployments.label_app.catalogues import Catalogue
from deployments.label_app.events import REVIEW
from deployments.label_app.labels import OPINIONS, TEST
from deployments.label_app.people import Person
from deployments.label_app.sampling import in_random_order
from deployments.label_app.service import Service
from deployments.label_app.states import SYMBOL, WORDS, State, at_odds, learnt
from deployments.label_app.tables import Description
from deployments.label_app.uploads import as_stamps
from infra.errors import GalaxyError

STAMPS = 16
"""On a sheet."""

SAID = {True: "said_yes", False: "said_no"}
"""Why a galaxy is shown again, by what was said of it."""


@dataclass(frozen=True)
class Choice:
    """The stamps of a sheet: (k,) rows, why each is shown, and how likely it seems, if a learner has chosen it."""

    rows: NDArray[np.int64]
    reasons: Sequence[str]
    chances: Sequence[float | None]


def proposed(service: Service, state: State) -> Choice:
    """What the learner proposes: likely ones, uncertain ones, some that differ, and some at random."""
    preference = learnt(service, state)
    sheet = preference.propose(STAMPS, exclude=state.closed, groups=state.catalogue.groups)
    chances = preference.probabilities(sheet.rows)
    return Choice(_not_empty(sheet.rows, "every galaxy has been shown"), sheet.reasons, chances.tolist())


def likeliest(service: Service, state: State) -> Choice:
    """The top of the ranked list, less what has an answer, is held back or lies before others; one of each object."""
    chances = learnt(service, state).probabilities()
    cost = np.where(state.catalogue.searchable & np.isfinite(chances), -chances, np.inf).astype(np.float32)
    rows = state.catalogue.first(cost, STAMPS, state.taken)
    rows = _not_empty(rows, "every galaxy has an answer, is held back for the test or lies before somebody else")
    return Choice(rows, ["best"] * len(rows), chances[rows].tolist())


def doubted(service: Service, state: State, person: Person) -> Choice:
    """What the person has said that the other answers speak against."""
    rows, wanted = at_odds(service, state, person)
    rows = _not_empty(rows, "none of your answers is at odds with the others")[:STAMPS]
    return Choice(rows, [SAID[bool(each)] for each in wanted[: len(rows)]], [None] * len(rows))


def next_fitting(service: Service, state: State, description: Description) -> Choice:
    """What fits the description best of all that was not shown yet."""
    rows = _fitting(service, state.catalogue, description, state.closed.tolist())
    return _unmarked(rows, _reason(description), "every galaxy that can be compared with the description was shown")


def at_random(state: State) -> Choice:
    """Random ones, one of each object."""
    rows = np.flatnonzero(state.catalogue.searchable).astype(np.int64)
    groups = state.catalogue.groups
    rows = in_random_order(state.search.seed, rows[~np.isin(groups[rows], groups[state.closed])])
    _, first = np.unique(groups[rows], return_index=True)
    return _unmarked(rows[np.sort(first)], "random", "every galaxy has been shown")


def labelled_by_others(state: State, person: Person) -> Choice:
    """Stamps that others have said yes or no of, and this person nothing; not told what they said."""
    of_others = [rows for name, rows in state.labels.of_person.items() if name != person.name]
    said = {row for rows in of_others for row, answer in rows.items() if answer in OPINIONS}
    left = said - set(state.labels.of_person.get(person.name, {})) - set(state.seen.tolist())
    rows = in_random_order(state.search.seed, np.array(sorted(left), np.int64))
    return _unmarked(rows, REVIEW, "you have seen all that others have labelled in this search")


def next_of_test(state: State, person: Person) -> Choice:
    """The next of the held-back sample, in its order: leaving one out would make it a sample of something else."""
    answered = list(state.labels.of_person.get(person.name, {}))
    rows = state.held[~np.isin(state.held, answered)]
    return _unmarked(rows, TEST, f"you have labelled all {len(state.held)} galaxies that are held back for the test")


def first_fitting(
    service: Service,
    catalogue: Catalogue,
    without: Sequence[int],
    pictures: Sequence[Image.Image],
    description: Description | None,
) -> Choice:
    """The galaxies that look most like some pictures to the model, or fit a description best, each one's in turn."""
    found: list[tuple[list[int], str]] = []
    if pictures:
        vectors = service.models.embed(catalogue, as_stamps(pictures))
        found += [(catalogue.neighbours(vector, STAMPS, without).tolist(), "best") for vector in vectors]
    if description is not None:
        found.append((_fitting(service, catalogue, description, without).tolist(), _reason(description)))
    turns = zip_longest(*([(row, reason) for row in rows] for rows, reason in found))
    reasons: dict[int, str] = {}
    for row, reason in (one for turn in turns for one in turn if one is not None):
        reasons.setdefault(row, reason)
    rows = list(reasons)[:STAMPS]
    return Choice(np.array(rows, np.int64), [reasons[row] for row in rows], [None] * len(rows))


def _reason(description: Description) -> str:
    """Why a galaxy that fits a description is shown."""
    return WORDS if description.words else SYMBOL


def _fitting(
    service: Service, catalogue: Catalogue, description: Description, without: Sequence[int]
) -> NDArray[np.int64]:
    if description.model == catalogue.features.model:  # which tells the symbol's class by itself
        return catalogue.likeliest(description.symbol, STAMPS, without)
    vector = service.models.describe(catalogue, description.words, description.symbol)
    return catalogue.best_fitting(vector, STAMPS, without)


def _unmarked(rows: NDArray[np.int64], reason: str, explanation: str) -> Choice:
    rows = _not_empty(rows, explanation)[:STAMPS]
    return Choice(rows, [reason] * len(rows), [None] * len(rows))


def _not_empty(rows: NDArray[np.int64], explanation: str) -> NDArray[np.int64]:
    if not len(rows):
        raise GalaxyError(f"{explanation}; there is nothing left for another sheet")
    return rows
