"""People who label at once, two and two the same search: nothing fails, nothing is lost, nothing is fetched twice."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import select

from deployments.label_app.accounts import Accounts
from deployments.label_app.database import Database
from deployments.label_app.tables import Round, Shown
from infra.settings import Settings
from tests.deployments.label_app.process import start, votes_in
from tests.deployments.label_app.sky import CATALOGUE, is_edge_on
from tests.doubles.labellers import Labeller, Log
from tests.end_to_end.home import free_port

PASSWORD = "correct horse battery"
PEOPLE, VOTES, MOST_SECONDS = 4, 80, 120.0


@pytest.mark.slow
def test_people_at_once(settings: Settings) -> None:
    database = Database(settings.label_database_url)
    for number in range(PEOPLE):
        Accounts(database).add(f"person{number}", "labeller", PASSWORD)
    port = free_port()
    service = start(settings.home, port, "--sign-in")
    try:
        log = asyncio.run(label(f"http://127.0.0.1:{port}"))
    finally:
        service.terminate()
        service.wait(30)
    assert not log.errors
    assert len(log.acknowledged) >= VOTES and log.acknowledged <= votes_in(settings.home)
    assert log.spared >= len(log.seconds["next sheet"]), "style and script come from the browser's cache"
    assert len(log.seconds["vote"]) == len(log.acknowledged), "each vote was asked for once"
    with database.reading() as session:
        sheets = session.scalars(select(Round)).all()
        shown = session.execute(select(Round.person, Shown.row).join(Shown, Shown.round_id == Round.id)).all()
    database.close()
    assert {sheet.search_id for sheet in sheets} == {1, 2} and len({sheet.person for sheet in sheets}) == PEOPLE
    assert len(shown) == len(set(shown)), "nobody was shown a galaxy on two sheets"


async def label(address: str) -> Log:
    """Everybody signs in and labels, until enough is said."""
    log = Log()
    people = [Labeller(address, f"person{number}", log, is_edge_on, think=0.05) for number in range(PEOPLE)]
    try:
        for person in people:
            await person.sign_in(PASSWORD)
        searches = [await people[n].begin(f"search {n}", CATALOGUE, "galaxy-000\ngalaxy-005") for n in range(2)]
        until = time.monotonic() + MOST_SECONDS
        while len(log.acknowledged) < VOTES and time.monotonic() < until:
            soon = time.monotonic() + 4
            await asyncio.gather(*(person.label(searches[n % 2], soon) for n, person in enumerate(people)))
    finally:
        for person in people:
            await person.close()
    return log
