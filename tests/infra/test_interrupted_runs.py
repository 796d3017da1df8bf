"""Flow runs that were left in the middle go on by themselves, once, and stand in the way of later ones no more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.server.api.server import create_app
from prefect.server.concurrency.lease_storage.memory import ConcurrencyLeaseStorage
from prefect.server.database.dependencies import provide_database_interface, temporary_database_interface
from prefect.settings import (
    PREFECT_API_BLOCKS_REGISTER_ON_START,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_DATABASE_MIGRATE_ON_START,
    PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED,
    temporary_settings,
)
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

from infra.interrupted_runs import ENDED, GOES_ON, INTERRUPTED, TWICE, put_right, put_right_at

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # Prefect's own statements
]

SUBMITTED = [Pending(), Pending(name="Submitting")]
BEGUN = [*SUBMITTED, Running()]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrefectClient]:
    """Of Prefect's API in this process; the database is made from its models, which takes less than its migrations."""
    folder = tmp_path_factory.mktemp("prefect")
    here = {
        PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        PREFECT_API_BLOCKS_REGISTER_ON_START: False,
        PREFECT_SERVER_DATABASE_MIGRATE_ON_START: False,
        PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED: False,  # it takes five seconds to end
    }
    with temporary_settings(here), temporary_database_interface():
        database = provide_database_interface()
        metadata = database.Base.metadata
        for table in metadata.tables.values():  # one index is declared twice
            table.indexes = set({index.name: index for index in table.indexes}.values())
        async with (await database.engine()).begin() as connection:
            await connection.run_sync(metadata.create_all)
        async with PrefectClient(create_app(ephemeral=True, ignore_cache=True)) as client:
            yield client


@dataclass(frozen=True)
class Pool:
    """A work pool with one deployment that runs once at a time."""

    client: PrefectClient
    name: str
    deployment: UUID

    async def run(self, *states: State) -> UUID:
        """A run that went through these states."""
        run = await self.client.create_flow_run_from_deployment(self.deployment)
        await self.go(run.id, *states)
        return run.id

    async def go(self, run: UUID, *states: State) -> None:
        for state in states:
            await self.client.set_flow_run_state(run, state)

    async def restart(self, killed: bool = True) -> list[str]:
        """What a new start makes of the runs; the last server took along what it knew of slots."""
        ConcurrencyLeaseStorage().leases.clear()
        return [state.name for _, state in await put_right(self.client, self.name, killed)]

    async def now(self, run: UUID) -> tuple[str, str]:
        state = (await self.client.read_flow_run(run)).state
        assert state is not None
        return state.name, state.message or ""


@flow
def nothing() -> None:
    """Never run."""


@pytest.fixture
async def pool(client: PrefectClient) -> Pool:
    name = f"pool-{uuid4()}"
    await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    flow_id = await client.create_flow(nothing)
    deployment = await client.create_deployment(flow_id, name, work_pool_name=name, concurrency_limit=1)
    return Pool(client, name, deployment)


@pytest.mark.parametrize("states", [SUBMITTED, BEGUN], ids=["submitted", "begun"])
async def test_what_was_left_goes_on_and_a_later_run_gets_its_turn(pool: Pool, states: list[State]) -> None:
    left, later = await pool.run(*states), await pool.run(Pending())
    assert (await pool.now(later))[0] == "AwaitingConcurrencySlot"
    assert await pool.restart() == ["Interrupted"]
    assert await pool.now(left) == (INTERRUPTED, GOES_ON[INTERRUPTED])
    due = await pool.client.get_scheduled_flow_runs_for_work_pool(pool.name)
    assert left in [found.flow_run.id for found in due], "no worker would take it"
    await pool.go(later, Pending(), Running(), Completed())
    assert (await pool.now(later))[0] == "Completed"
    await pool.go(left, *BEGUN, Completed())
    assert (await pool.now(left))[0] == "Completed"
    assert await pool.restart() == []


async def test_what_was_being_cancelled_is_cancelled(pool: Pool) -> None:
    run = await pool.run(*BEGUN, Cancelling())
    assert await pool.restart() == ["Cancelled"]
    later = await pool.run(*BEGUN)
    assert (await pool.now(later))[0] == "Running"
    assert "while it was being cancelled" in (await pool.now(run))[1]


async def test_a_run_that_kills_the_services_does_so_twice_at_most(pool: Pool) -> None:
    run = await pool.run(*BEGUN)
    assert await pool.restart() == ["Interrupted"]
    await pool.go(run, *BEGUN)
    assert await pool.restart() == ["Crashed"]
    assert await pool.now(run) == ("Crashed", TWICE)
    await pool.go(run, Scheduled(), *BEGUN)  # somebody retries it, and it is put back once more
    assert await pool.restart() == ["Interrupted"]


async def test_a_run_that_cannot_be_put_right_is_told_and_the_others_go_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = await pool.run(*BEGUN)
    flow_id = await pool.client.create_flow(nothing)
    deployment = await pool.client.create_deployment(flow_id, f"{pool.name}-second", work_pool_name=pool.name)
    await Pool(pool.client, pool.name, deployment).run(*BEGUN)
    plain = PrefectClient.set_flow_run_state

    async def refuse(client: PrefectClient, run: UUID, state: State, **how: bool) -> object:
        if run == odd:
            raise ObjectNotFound(ValueError("it is gone"))
        return await plain(client, run, state, **how)

    monkeypatch.setattr(PrefectClient, "set_flow_run_state", refuse)
    moved = {state.name: state.message or "" for _, state in await put_right(pool.client, pool.name, killed=True)}
    assert "could not be put right" in moved["Running"]
    assert INTERRUPTED in moved


async def test_services_that_are_stopped_every_evening_are_no_fault_of_the_run(pool: Pool) -> None:
    run = await pool.run(*BEGUN)
    for killed, state in ((False, "Stopped"), (False, "Stopped"), (True, "Interrupted"), (False, "Stopped")):
        assert await pool.restart(killed) == [state]
        await pool.go(run, *BEGUN)
    assert await pool.restart() == ["Interrupted"], "not twice in a row"


async def test_the_stages_of_a_run_that_was_left_end(pool: Pool) -> None:
    run = await pool.run(*BEGUN)
    begun = await pool.client.create_task_run(task(nothing.fn), run, dynamic_key="0", state=Running())
    stage = await pool.client.create_flow_run(nothing, parent_task_run_id=begun.id, state=Running())
    assert await pool.restart() == ["Interrupted"]
    assert await pool.now(stage.id) == ("Crashed", ENDED)


async def test_others_are_not_touched(pool: Pool) -> None:
    alone = (await pool.client.create_flow_run(nothing, state=Running())).id  # as `galaxy run` makes them
    waiting, done, running = await pool.run(), await pool.run(*BEGUN, Completed()), await pool.run(*BEGUN)
    assert await put_right(pool.client, "another pool", killed=True) == []
    assert (await pool.now(running))[0] == "Running"
    assert await pool.restart() == ["Interrupted"]
    assert [(await pool.now(run))[0] for run in (alone, waiting, done)] == ["Running", "Scheduled", "Completed"]


def test_a_database_that_others_may_use_is_not_touched(tmp_path: Path) -> None:
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: "postgresql+asyncpg://prefect@host/prefect"}):
        assert put_right_at("http://127.0.0.1:9/api", "local", tmp_path, killed=True) == []
