"""The parts of the evidence, and in which order and how many at a time they are measured."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.evidence.processes import in_one_thread_beside_parent
from tests.evidence.workbench import Workbench

FIRST: tuple[str, ...] = ("few_labels", "search")
"""Measured one after the other: they fill the processors by themselves, and the others use what they pre-train."""

BESIDE: tuple[str, ...] = ("adaptive_shares", "restoration", "parameters", "representations")
"""Measured two at a time with a thread each, the longest first: small networks fill one thread better than two."""

PARTS = FIRST + BESIDE
"""Modules of this folder with `run(bench: Workbench) -> None`."""

AT_ONCE = 2


def measure_all(parts: Collection[str], one: Callable[[str], None]) -> None:
    """Measure those named, each by `one`; what was measured before by the same code is not measured again."""
    for part in FIRST:
        if part in parts:
            one(part)
    context = get_context("forkserver")
    with ProcessPoolExecutor(AT_ONCE, mp_context=context, initializer=in_one_thread_beside_parent) as pool:
        list(pool.map(one, [part for part in BESIDE if part in parts]))


def measure(part: str, *, size: str, keep: bool) -> None:
    """One part, in this process."""
    importlib.import_module(f"tests.evidence.{part}").run(Workbench(part, size, keep))
