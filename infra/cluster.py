"""Where a stage's shards are worked on: in this process, in worker processes, or on any Dask cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from infra.errors import GalaxyError
from infra.profile import ClusterSettings

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 4
"""Tasks that the scheduler knows of at once; a survey has more shards than it should hold."""

CONNECT_SECONDS = 30

ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 128 * 2**20, "MALLOC_MMAP_THRESHOLD_": 32 * 2**20}
"""Bytes that glibc's malloc keeps for the next array. Dask has its workers give memory back after every free; drawing
stamps was twice as slow with that, since every temporary array began with the kernel's zeroing of fresh pages."""


class Workers(Protocol):
    """What does the work."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, as results come; the first exception ends it and is raised.

        `function` may run in another process, and again after a worker was lost, so it must be able to
        be sent there and give the same when called twice.
        """


class Inline:
    """Works in this process, one item after the other."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, in order."""
        for item in items:
            yield item, function(item)


class DaskWorkers:
    """Works on a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, as results come."""
        from distributed import KilledWorker, as_completed

        waiting = iter(items)
        at_once = IN_FLIGHT_PER_WORKER * max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))
        running: dict[str, Item] = {}

        def submit(item: Item) -> Any:
            future = self._client.submit(function, item, pure=False)
            running[future.key] = item
            return future

        futures = as_completed([submit(item) for _, item in zip(range(at_once), waiting, strict=False)])
        for future in futures:
            item = running.pop(future.key)
            try:
                result = future.result()
            except KilledWorker as error:
                raise GalaxyError(
                    f"the worker processes that had piece {item} were killed one after the other, most often for want "
                    f"of memory: {error}. Give the profile fewer `workers` or smaller shards, and run again"
                ) from None
            yield item, result
            for following in waiting:
                futures.add(submit(following))
                break


@contextmanager
def open_client(settings: ClusterSettings) -> Iterator[Workers]:
    """The workers that a profile asks for, for as long as the context lasts.

    A local cluster has single-threaded worker processes, listens on loopback only, and has no dashboard.

    Raises
    ------
    GalaxyError
        If the scheduler cannot be reached.
    """
    if settings.kind == "inline":
        yield Inline()
        return
    import dask
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"}
    options |= {f"distributed.nanny.pre-spawn-environ.{name}": size for name, size in ALLOCATOR.items()}
    with dask.config.set(options):
        if settings.kind == "address":
            try:
                client = Client(settings.address, timeout=CONNECT_SECONDS)
            except (OSError, TimeoutError, ValueError) as error:
                raise GalaxyError(
                    f"no Dask scheduler at {settings.address!r}: {error}; correct `address` in the profile's section "
                    "[cluster], start the scheduler, or use kind = 'local'"
                ) from None
            with client:
                yield DaskWorkers(client)
            return
        with (
            LocalCluster(
                n_workers=settings.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield DaskWorkers(client)
