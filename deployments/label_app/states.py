"""All that is known of a search at one moment, for one person: what sheets, lists and estimates follow from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deployments.label_app.catalogues import Catalogue
from deployments.label_app.events import BEST, CHECK, SEARCH, first_examples, labels_of
from deployments.label_app.labels import OPINIONS, TEST, Labels, current_labels, labels_digest
from deployments.label_app.learning import Teaching
from deployments.label_app.people import Person
from deployments.label_app.sampling import held_back
from deployments.label_app.service import Service
from deployments.label_app.tables import Description, Round, Search, Shown, Vote
from galaxy_models.preference import EXAMPLE, REASONS, Preference, Remaining
from infra.errors import GalaxyError

WORDS, SYMBOL = "words", "symbol"
"""Why a galaxy is shown that fits what somebody said."""

TAUGHT_AS = {WORDS: "best", SYMBOL: "best"}
"""Reasons by which the learner takes such answers: chosen for what was known of them, not for the answer."""


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
    checked
        Rows that the person has answered again on a second look.
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
    checked: NDArray[np.int64]
    at_hand: NDArray[np.int64]
    description: Description | None = None

    @property
    def taken(self) -> NDArray[np.int64]:
        """Rows that are held back, have an answer, or lie before somebody else."""
        return np.unique(np.concatenate([self.held, self.labels.answered(), self.at_hand])).astype(np.int64)

    @property
    def closed(self) -> NDArray[np.int64]:
        """Rows that must not come on a sheet of the search: those, what was shown, and what has no usable stamp."""
        return np.union1d(np.flatnonzero(~self.catalogue.searchable), np.union1d(self.taken, self.seen))

    def require_wanted(self) -> None:
        """Raise GalaxyError while nothing is wanted: then there is no learner, and no list."""
        if not self.teaching.is_enough:
            raise GalaxyError("nothing is marked as wanted in this search yet; say yes to at least one galaxy first")


def state_of(service: Service, session: Session, search_id: int, person: Person, kind: str = SEARCH) -> State:
    """The state of a search, for sheets of a kind.

    Raises
    ------
    GalaxyError
        If there is no such search.
    """
    search = session.get(Search, search_id)
    if search is None:
        raise GalaxyError(f"there is no search {search_id}")
    catalogue = service.library.catalogue(search.catalogue)
    training = labels_of(session, search_id)
    return State(
        search,
        catalogue,
        labels_of(session, search_id, test=True) if kind == TEST else training,
        _teaching(session, search, training),
        service.held_back.get(
            search_id,
            lambda: held_back(search.seed, catalogue.searchable, catalogue.groups, first_examples(session, search_id)),
        ),
        _seen(session, search_id, person.name, kind),
        _checked(session, search_id, person.name),
        _at_hand(session, search_id, person.name),
        session.scalar(select(Description).where(Description.search_id == search_id)),
    )


def learnt(service: Service, state: State) -> Preference:
    """What the search has learnt; called in one of the learners' threads."""
    return service.learners.preference(state.search.id, state.catalogue, state.teaching, state.search.seed)


def remaining(service: Service, state: State) -> Remaining:
    """How many wanted galaxies nobody has labelled yet."""
    answered = state.labels.answered()

    def estimate() -> Remaining:
        nowhere = np.flatnonzero(~state.catalogue.searchable)
        return learnt(service, state).remaining(exclude=np.union1d(nowhere, answered))

    found: Remaining = service.remaining.get((state.search.id, state.teaching.digest, answered.tobytes()), estimate)
    return found


def at_odds(service: Service, state: State, person: Person) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(k,) rows whose answer by this person the other answers speak against, not looked at again yet; and (k,) it."""
    rows, wanted = learnt(service, state).at_odds()
    own = state.labels.of_person.get(person.name, {})
    said = [OPINIONS.get(own.get(row, "")) for row in rows.tolist()]
    open_ = np.array([said[i] == wanted[i] for i in range(len(rows))], bool) & ~np.isin(rows, state.checked)
    return rows[open_], wanted[open_]


def _teaching(session: Session, search: Search, labels: Labels) -> Teaching:
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


def _seen(session: Session, search_id: int, person: str, kind: str) -> NDArray[np.int64]:
    chosen = select(Shown.row).join(Round, Round.id == Shown.round_id)
    mine = (Round.search_id == search_id, Round.person == person, Round.kind == kind)
    return np.array(session.scalars(chosen.where(*mine)).all(), np.int64)


def _checked(session: Session, search_id: int, person: str) -> NDArray[np.int64]:
    mine = (Vote.search_id == search_id, Vote.person == person, Vote.kind == CHECK)
    again = current_labels(session.scalars(select(Vote).where(*mine).order_by(Vote.id)))
    return np.array(list(again.of_person.get(person, {})), np.int64)


def _at_hand(session: Session, search_id: int, person: str) -> NDArray[np.int64]:
    theirs = (Round.search_id == search_id, Round.kind.in_((SEARCH, BEST)), Round.person != person)
    last = select(func.max(Round.id)).where(*theirs).group_by(Round.person, Round.kind)
    chosen = select(Shown.row).where(Shown.round_id.in_(last))
    return np.array(session.scalars(chosen).all(), np.int64)
