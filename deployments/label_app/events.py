"""The events of a search, written and read: nothing is changed and nothing taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from deployments.label_app.database import Database
from deployments.label_app.labels import OPINIONS, TEST, Labels, current_labels
from deployments.label_app.tables import Round, Search, Shown, Vote

SEARCH, BEST, CHECK, REVIEW, EXAMPLE = "search", "best", "check", "review", "example"
KINDS = (SEARCH, BEST, CHECK, REVIEW, TEST)


@dataclass(frozen=True)
class Stamp:
    """A galaxy as an event names it."""

    row: int
    object_id: str
    digest: str


def add_examples(
    session: Session, search: Search, person: str, stamps: Sequence[Stamp], answer: str, request_key: str
) -> None:
    """Vote for galaxies that somebody brought along."""
    for number, stamp in enumerate(stamps):
        event = _vote(search, person, EXAMPLE, stamp, f"{request_key}.{answer}.{number}")
        event.answer = answer
        session.add(event)


def add_round(session: Session, new: Round, stamps: Sequence[tuple[Stamp, str, float | None]]) -> Round:
    """Enter a sheet: for each stamp why it is shown, and how likely it seemed.

    Raises
    ------
    IntegrityError
        If the person has a sheet of this kind and number: the database's own rule, for two requests at once.
    """
    session.add(new)
    session.flush()
    for place, (stamp, reason, probability) in enumerate(stamps):
        session.add(
            Shown(
                round_id=new.id,
                place=place,
                row=stamp.row,
                object_id=stamp.object_id,
                stamp_digest=stamp.digest,
                reason=reason,
                probability=probability,
            )
        )
    return new


def last_round(session: Session, search_id: int, person: str, kind: str) -> Round | None:
    """The sheet that a person was shown last."""
    mine = (Round.search_id == search_id, Round.person == person, Round.kind == kind)
    return session.scalar(select(Round).where(*mine).order_by(Round.number.desc()).limit(1))


def round_before(session: Session, sheet: Round) -> Round | None:
    """The sheet of the same kind that the person was shown before it."""
    mine = (Round.search_id == sheet.search_id, Round.person == sheet.person, Round.kind == sheet.kind)
    return session.scalar(select(Round).where(*mine, Round.number == sheet.number - 1))


def shown_in(session: Session, round_id: int) -> list[Shown]:
    """The stamps of a sheet in their order."""
    return list(session.scalars(select(Shown).where(Shown.round_id == round_id).order_by(Shown.place)))


def vote(database: Database, search: Search, shown: Sequence[tuple[Round, Shown]], answer: str, key: str) -> None:
    """Enter what a person says of some stamps of their sheet; on the disk when this returns.

    The same request key again changes nothing: a page that heard no answer may ask once more.
    """
    try:
        with database.writing() as session:
            for sheet, one in shown:
                stamp = Stamp(one.row, one.object_id, one.stamp_digest)
                event = _vote(search, sheet.person, sheet.kind, stamp, f"{key}.{one.place}")
                event.round_id, event.answer = sheet.id, answer
                session.add(event)
    except IntegrityError:
        if not _is_known(database, shown[0][0].person, f"{key}.{shown[0][1].place}"):
            raise


def undo(database: Database, search: Search, sheet: Round, key: str) -> Vote | None:
    """Take back the last vote of a sheet that still holds; the vote, or None if there is none."""
    try:
        with database.writing() as session:
            last = _last_standing(session, sheet)
            if last is None:
                return None
            stamp = Stamp(last.row, last.object_id, last.stamp_digest)
            event = _vote(search, sheet.person, sheet.kind, stamp, f"{key}.undo")
            event.round_id, event.undoes = sheet.id, last.id
            session.add(event)
        return last
    except IntegrityError:  # sent twice, or two undos at once took the same vote
        taken_back = aliased(Vote)
        with database.reading() as session:
            chosen = select(taken_back).join(Vote, Vote.undoes == taken_back.id)
            return session.scalar(chosen.where(Vote.person == sheet.person, Vote.request_key == f"{key}.undo"))


def likely_wanted(session: Session, sheet: Round) -> tuple[int, int]:
    """Of what a sheet showed as likely: how many were wanted, and how many were answered with yes or no."""
    answers = labels_in(session, sheet)
    said = [answers.get(one.row) for one in shown_in(session, sheet.id) if one.reason == "best"]
    return said.count("yes"), sum(answer in OPINIONS for answer in said)


def labels_of(session: Session, search_id: int, *, test: bool = False) -> Labels:
    """What holds now, of training or of the test; the two are never mixed."""
    kind = Vote.kind == TEST if test else Vote.kind != TEST
    return current_labels(session.scalars(select(Vote).where(Vote.search_id == search_id, kind).order_by(Vote.id)))


def labels_in(session: Session, sheet: Round) -> dict[int, str]:
    """Row to answer, on one sheet."""
    events = session.scalars(select(Vote).where(Vote.round_id == sheet.id).order_by(Vote.id))
    return dict(current_labels(events).of_person.get(sheet.person, {}))


def first_examples(session: Session, search_id: int) -> list[int]:
    """Rows that the search was begun with."""
    return list(session.scalars(select(Vote.row).where(Vote.search_id == search_id, Vote.kind == EXAMPLE)))


def _last_standing(session: Session, sheet: Round) -> Vote | None:
    undone = select(Vote.undoes).where(Vote.round_id == sheet.id, Vote.undoes.is_not(None))
    standing = select(Vote).where(Vote.round_id == sheet.id, Vote.answer.is_not(None), Vote.id.not_in(undone))
    return session.scalar(standing.order_by(Vote.id.desc()).limit(1))


def _is_known(database: Database, person: str, request_key: str) -> bool:
    with database.reading() as session:
        return session.scalar(select(Vote).where(Vote.person == person, Vote.request_key == request_key)) is not None


def _vote(search: Search, person: str, kind: str, stamp: Stamp, request_key: str) -> Vote:
    return Vote(
        search_id=search.id,
        person=person,
        kind=kind,
        row=stamp.row,
        object_id=stamp.object_id,
        stamp_digest=stamp.digest,
        model=search.model,
        model_version=search.model_version,
        request_key=request_key,
    )
