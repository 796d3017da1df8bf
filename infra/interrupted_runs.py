"""Flow runs that the services left in the middle when they ended: put right before a worker takes new ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

from httpx import HTTPError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings
from prefect.states import Cancelled, Crashed, Scheduled
from sqlalchemy import make_url

INTERRUPTED, STOPPED = "Interrupted", "Stopped"
"""Names of the state of a run that waits to go on, after services that were killed or that somebody stopped."""

GOES_ON = {
    INTERRUPTED: "The services were killed or failed before it ended; it goes on where it was.",
    STOPPED: "The services were stopped before it ended; it goes on where it was.",
}
TWICE = (
    "The services were killed or failed before it ended, twice in a row, and it may have been the cause: see whether "
    "memory or disk were full, and give it less to do if so. Then retry it; it goes on where it was."
)
WAS_CANCELLED = "The services ended while it was being cancelled."
ENDED = "The services ended before it did."

MOVED_BY_WORKERS = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
)
"""States that only a worker or a flow's process ends. A run that somebody suspended waits for a person."""


def put_right_at(api: str, work_pool: str, home: Path, killed: bool) -> list[tuple[str, State]]:
    """Do so at a server that was just started, if its database is in a home folder and so no other server's.

    Parameters
    ----------
    api
        Its address, such as http://127.0.0.1:4200/api.
    work_pool, killed
        As in `put_right`.
    home
        The home folder.
    """
    if not Path(make_url(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).database or "").is_relative_to(home):
        return []  # other services may share the database, and their runs may be alive

    async def ask() -> list[tuple[str, State]]:
        async with get_client() as client:
            return await put_right(client, work_pool, killed)

    with temporary_settings({PREFECT_API_URL: api}):
        return asyncio.run(ask())


async def put_right(client: PrefectClient, work_pool: str, killed: bool) -> list[tuple[str, State]]:
    """Move on the flow runs of a work pool that nobody works on any more.

    Prefect leaves a run as it was when its worker ended. Being submitted, running or being cancelled, it would stay
    so, and with it the one slot of its deployment, which no later run would be given. Runs without a deployment, such
    as those of `galaxy run`, are in no pool and not touched.

    Parameters
    ----------
    client
        Of the server that knows the runs.
    work_pool
        Its name. None of its workers may be alive: what they work on looks the same.
    killed
        Whether the services were killed or failed, maybe by one of these runs; else somebody stopped them.

    Returns
    -------
    list of (str, State)
        Names of the runs, and what they are now: waiting to go on; crashed, if the services were killed under them
        twice in a row; cancelled; or as they were, with the reason in the message.
    """
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool]))
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=MOVED_BY_WORKERS), work_pool_filter=pool)
    moved = []
    for run in found:
        try:
            moved.append((run.name, await _moved(client, run, killed)))
        except (PrefectException, HTTPError) as error:  # one odd run must not keep the services from starting
            left = State(type=run.state_type, name=run.state_name, message=f"it could not be put right: {error}")
            moved.append((run.name, left))
    return moved


async def _moved(client: PrefectClient, run: FlowRun, killed: bool) -> State:
    """What it is now."""
    wanted = await _where_to(client, run, killed)
    answer = await client.set_flow_run_state(run.id, wanted)  # which gives the deployment's slot back
    await _end_stages(client, run)
    return answer.state or wanted


async def _where_to(client: PrefectClient, run: FlowRun, killed: bool) -> State:
    if run.state_type == StateType.CANCELLING:
        return Cancelled(message=WAS_CANCELLED)
    if killed and await _was_killed_before(client, run):
        return Crashed(message=TWICE)
    name = INTERRUPTED if killed else STOPPED
    return Scheduled(name=name, message=GOES_ON[name])


async def _was_killed_before(client: PrefectClient, run: FlowRun) -> bool:
    """Whether it goes on after services that were killed, and neither ended nor was stopped with them since."""
    states = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    marks = [state.name for state in states if state.is_final() or state.name in GOES_ON]
    return marks[-1:] == [INTERRUPTED]


async def _end_stages(client: PrefectClient, run: FlowRun) -> None:
    """End the runs of a run's stages, which begin new ones when it goes on."""
    stages = FlowRunFilter(state=MOVED_BY_WORKERS, parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    for stage in await client.read_flow_runs(flow_run_filter=stages):
        await client.set_flow_run_state(stage.id, Crashed(message=ENDED))
