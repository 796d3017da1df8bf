"""Measurements shared out among a few processes of one thread each: small networks fill one thread better than two."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import torch

from tests.evidence.workbench import Workbench

Opened = TypeVar("Opened")
Wanted = TypeVar("Wanted")

_of_process: Any = None


def in_processes(
    count: int,
    bench: Workbench,
    opened: Callable[[Workbench], Opened],
    measure: Callable[[Opened, Wanted], object],
    wanted: Sequence[Wanted],
) -> None:
    """Call `measure` for each of `wanted`, with what `opened` gives once in each process.

    Parameters
    ----------
    opened, measure
        Functions of modules; what `measure` finds it keeps on the workbench.
    """
    context = get_context("forkserver")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_open, initargs=(bench, opened)) as pool:
        list(pool.map(partial(_measure, measure), wanted))
    bench.reread()


def in_one_thread_beside_parent() -> None:
    """How a process of a pool begins: it computes in one thread, and ends when its parent does, even if killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _open(bench: Workbench, opened: Callable[[Workbench], Any]) -> None:
    global _of_process
    in_one_thread_beside_parent()
    _of_process = opened(bench)


def _end_with_parent() -> None:
    """A killed parent tells its processes nothing: one would go on with its measurement, and keep its memory."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure(measure: Callable[[Any, Any], object], wanted: Any) -> None:
    measure(_of_process, wanted)
