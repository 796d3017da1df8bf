"""Fifty people who label at once for ten minutes: how long stamps, votes and sheets take, and whether a vote is lost.

`python -m tests.benchmarks.hitl_load [SECONDS]`, or GALAXY_LOAD_SECONDS: shorter to try it out.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import Popen

import numpy as np

from deployments.label_app.accounts import Accounts
from deployments.label_app.database import Database
from tests.benchmarks.result import report
from tests.deployments.label_app.process import start, votes_in
from tests.deployments.label_app.sky import CATALOGUE, is_edge_on, make_home
from tests.doubles.labellers import PATIENCE, Labeller, Log
from tests.end_to_end.home import free_port

PEOPLE, SEARCHES = 50, 20
"""So that each search has two people or three."""

STAMPS, SIDE, NUMBERS = 4000, 152, 256
"""Of the catalogue: as many as ten minutes need, as large as a survey's, with embeddings as long as a model's."""

SECONDS, THINK = 600.0, 2.0
P95 = 0.5
KILL_SHARE, LEAST_KILL_SECONDS, KILL_PATIENCE = 0.1, 40.0, 300.0
"""How long people label around the kill, as a share of the load; and how long their pages wait for the service."""

PASSWORD = "correct horse battery"


class Load:
    """A home with a catalogue and accounts, the service in it, and people who label."""

    def __init__(self, home: Path) -> None:
        self.home = make_home(home, STAMPS, SIDE, NUMBERS).home
        database = Database(f"sqlite:///{home / 'label' / 'label.db'}")
        for number in range(PEOPLE):
            Accounts(database).add(_name(number), "labeller", PASSWORD)
        database.close()
        self.port = free_port()

    def serve(self) -> Popen[bytes]:
        """The service, once it answers."""
        return start(self.home, self.port, "--sign-in")

    @asynccontextmanager
    async def people(self, log: Log, searches: list[int], patience: float = PATIENCE) -> AsyncIterator[list[Labeller]]:
        """Everybody signed in; `searches` is filled by the first of them."""
        address = f"http://127.0.0.1:{self.port}"
        people = [Labeller(address, _name(number), log, is_edge_on, THINK, patience) for number in range(PEOPLE)]
        try:
            for number, person in enumerate(people):
                await person.sign_in(PASSWORD)
                if len(searches) <= number < SEARCHES:
                    first = "\n".join(f"galaxy-{5 * (number + turn):03d}" for turn in range(3))
                    searches.append(await person.begin(f"search {number}", CATALOGUE, first))
            yield people
        finally:
            for person in people:
                await person.close()


async def label(people: list[Labeller], searches: list[int], seconds: float) -> None:
    """Everybody labels, several the same search."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(person.label(searches[n % len(searches)], until) for n, person in enumerate(people)))


def _name(number: int) -> str:
    return f"person{number}"


async def steady(load: Load, seconds: float, searches: list[int]) -> None:
    """The load undisturbed."""
    log, service = Log(), load.serve()
    try:
        async with load.people(log, searches) as people:
            await label(people, searches, seconds)
    finally:
        service.terminate()
        service.wait(60)
    tell(log)
    p95 = {what: float(np.quantile(values, 0.95)) for what, values in log.seconds.items()}
    for what in ("stamp", "vote"):
        report(f"hitl_load_p95_{what}s", p95[what], "s", f"< {P95:g} with {PEOPLE} people", p95[what] < P95)
    report(
        "hitl_load_p95",
        max(p95["stamp"], p95["vote"]),
        "s",
        f"< {P95:g} for stamps and for votes",
        max(p95["stamp"], p95["vote"]) < P95,
    )
    report("hitl_load_p95_next_sheet", p95["next sheet"], "s", "reported", True)
    report("hitl_load_errors", len(log.errors), "requests", "0", not log.errors)
    lost = log.acknowledged - votes_in(load.home)
    report("hitl_load_votes_lost", len(lost), f"of {len(log.acknowledged)} votes", "0", not lost)


async def killed(load: Load, seconds: float, searches: list[int]) -> None:
    """`kill -9` in the middle of the load, and the service started again while the pages wait for it."""
    log, service = Log(), load.serve()
    try:
        async with load.people(log, searches, KILL_PATIENCE) as people:
            labelling = asyncio.create_task(label(people, searches, seconds))
            await asyncio.sleep(seconds / 2)
            service.kill()
            service.wait()
            service = await asyncio.to_thread(load.serve)
            await labelling
    finally:
        service.terminate()
        service.wait(60)
    tell(log)
    kept = len(log.acknowledged & votes_in(load.home)) / max(len(log.acknowledged), 1)
    report("hitl_votes_kept", kept, f"share of {len(log.acknowledged)} votes", "1 after kill -9", kept == 1)


def tell(log: Log) -> None:
    """How much was asked, and the first errors."""
    for what, values in sorted(log.seconds.items()):
        print(f"{len(values)} times {what}: {np.median(values):.3f} s in the middle, {max(values):.3f} s at most")
    print(f"{log.spared} pictures were in the browsers' caches; {log.again} requests were sent again")
    for error in log.errors[:10]:
        print(error, file=sys.stderr)


def main(seconds: float) -> None:
    """The load, then the kill."""
    with tempfile.TemporaryDirectory() as folder:
        load, searches = Load(Path(folder) / "home"), list[int]()
        asyncio.run(steady(load, seconds, searches))
        asyncio.run(killed(load, max(seconds * KILL_SHARE, LEAST_KILL_SECONDS), searches))


if __name__ == "__main__":
    main(float(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("GALAXY_LOAD_SECONDS", SECONDS)))
