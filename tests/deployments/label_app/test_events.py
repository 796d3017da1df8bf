"""Labels follow from events: nothing is overwritten, undo is an event, and a vote that is sent twice counts once."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from deployments.label_app.database import Database
from deployments.label_app.events import Stamp, add_round, labels_in, labels_of, last_round, undo, vote
from deployments.label_app.labels import Labels
from deployments.label_app.tables import Round, Search, Shown, Vote
from infra.errors import GalaxyError

STAMPS = [(Stamp(row, f"galaxy-{row:03d}", f"{row:032x}"), "random", None) for row in range(4)]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'label.db'}")


@pytest.fixture
def search(database: Database) -> Search:
    made = Search(
        name="rings", owner="vera", survey="s", catalogue="c", dataset_digest="d", model="m", model_version="1", seed=1
    )
    with database.writing() as session:
        session.add(made)
    return made


def sheet_for(database: Database, search: Search, person: str, kind: str = "search") -> tuple[Round, list[Shown]]:
    with database.writing() as session:
        before = last_round(session, search.id, person, kind)
        number = 1 if before is None else before.number + 1
        made = add_round(session, Round(search_id=search.id, person=person, kind=kind, number=number), STAMPS)
        shown = list(session.scalars(select(Shown).where(Shown.round_id == made.id).order_by(Shown.place)))
    return made, shown


def say(
    database: Database, search: Search, sheet: tuple[Round, list[Shown]], place: int, answer: str, key: str
) -> None:
    vote(database, search, [(sheet[0], sheet[1][place])], answer, key)


def now_in(database: Database, sheet: tuple[Round, list[Shown]]) -> dict[int, str]:
    with database.reading() as session:
        return labels_in(session, sheet[0])


def test_the_last_vote_holds_and_every_one_is_kept(database: Database, search: Search) -> None:
    sheet = sheet_for(database, search, "vera")
    say(database, search, sheet, 2, "yes", "first-00")
    say(database, search, sheet, 2, "no", "second-0")
    assert now_in(database, sheet) == {2: "no"}
    with database.reading() as session:
        kept = list(session.scalars(select(Vote).order_by(Vote.id)))
    assert [event.answer for event in kept] == ["yes", "no"]
    assert {(event.person, event.object_id, event.stamp_digest, event.model) for event in kept} == {
        ("vera", "galaxy-002", f"{2:032x}", "m")
    }
    assert all(event.made_at.tzinfo is not None for event in kept)


def test_undo_is_an_event_and_goes_back_vote_by_vote(database: Database, search: Search) -> None:
    sheet = sheet_for(database, search, "vera")
    say(database, search, sheet, 0, "yes", "first-00")
    say(database, search, sheet, 0, "no", "second-0")
    say(database, search, sheet, 1, "unsure", "third-00")
    expected = [{0: "no"}, {0: "yes"}, {}]
    for number, labels in enumerate(expected):
        assert undo(database, search, sheet[0], f"undo-{number:04d}") is not None
        assert now_in(database, sheet) == labels
    assert undo(database, search, sheet[0], "undo-more") is None, "nothing is left to take back"
    say(database, search, sheet, 0, "skip", "fourth-0")
    assert now_in(database, sheet) == {0: "skip"}
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Vote)) == 7, "three votes, three undos, one vote"


def test_what_is_sent_twice_counts_once(database: Database, search: Search) -> None:
    sheet = sheet_for(database, search, "vera")
    for _ in range(2):
        say(database, search, sheet, 0, "yes", "same-key")
    say(database, search, sheet, 1, "yes", "other-key")
    first = undo(database, search, sheet[0], "undo-key")
    second = undo(database, search, sheet[0], "undo-key")
    assert first is not None and second is not None and first.id == second.id
    assert now_in(database, sheet) == {0: "yes"}


def test_undo_touches_neither_other_people_nor_other_sheets(database: Database, search: Search) -> None:
    hers, his, older = (sheet_for(database, search, person) for person in ("vera", "fritz", "vera"))
    say(database, search, hers, 0, "yes", "hers-000")
    say(database, search, his, 0, "no", "his-0000")
    say(database, search, older, 1, "no", "older-00")
    undo(database, search, hers[0], "undo-000")
    assert (now_in(database, hers), now_in(database, his), now_in(database, older)) == ({}, {0: "no"}, {1: "no"})


def test_labels_of_the_test_are_never_among_those_for_training(database: Database, search: Search) -> None:
    say(database, search, sheet_for(database, search, "vera", "test"), 0, "yes", "test-000")
    say(database, search, sheet_for(database, search, "vera"), 1, "yes", "train-00")
    with database.reading() as session:
        assert labels_of(session, search.id).verdicts() == {1: "yes"}
        assert labels_of(session, search.id, test=True).verdicts() == {0: "yes"}


def test_people_who_disagree_teach_nothing_until_a_third_decides() -> None:
    said = {"a": {1: "yes", 2: "no", 3: "unsure", 5: "yes"}, "b": {1: "no", 2: "no", 4: "skip", 5: "unsure"}}
    both = Labels(said)
    assert both.verdicts() == {1: "disputed", 2: "no", 3: "unsure", 4: "skip", 5: "yes"}
    rows, wanted = both.wanted()
    assert dict(zip(rows.tolist(), wanted.tolist(), strict=True)) == {2: False, 5: True}
    assert Labels({**said, "c": {1: "yes"}}).verdicts()[1] == "yes"
    assert both.shared("a", "b").tolist() == [1, 2]
    np.testing.assert_array_equal(both.answers("b", both.shared("a", "b")), [False, False])


def test_many_writers_at_once_lose_nothing(database: Database, search: Search) -> None:
    sheets = [sheet_for(database, search, f"person-{number}") for number in range(8)]
    refused: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for place in range(4):
                say(database, search, sheets[number], place, "yes", f"key-{number:04d}-{place}")
        except BaseException as error:
            refused.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused
    assert all(now_in(database, sheet) == dict.fromkeys(range(4), "yes") for sheet in sheets)


def test_a_database_is_brought_up_to_date_once_and_opened_again(tmp_path: Path, search: Search) -> None:
    again = Database(f"sqlite:///{tmp_path / 'label.db'}")
    with again.reading() as session:
        assert session.get(Search, search.id) is not None
    with again.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL: on the disk when acknowledged"
    assert again.secret("csrf") == Database(f"sqlite:///{tmp_path / 'label.db'}").secret("csrf")


def test_migrations_make_what_the_code_describes(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from deployments.label_app.tables import Base

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_database_that_cannot_be_opened_is_told_without_its_password() -> None:
    with pytest.raises(GalaxyError, match="cannot be opened") as error:
        Database("postgresql+nodriver://someone:hidden-word@localhost/labels")
    assert "hidden-word" not in str(error.value)
