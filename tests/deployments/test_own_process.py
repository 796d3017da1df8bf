"""Work in a process of its own gives its result or its error back, and its end is told."""

from __future__ import annotations

import os

import pytest

from deployments.own_process import in_own_process
from infra.errors import GalaxyError


def refuse(what: str) -> None:
    raise GalaxyError(f"no {what}")


def test_results_and_errors_come_from_another_process() -> None:
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(GalaxyError, match="no bananas"):
        in_own_process(refuse, "bananas")


def test_a_process_that_was_killed_is_told_with_what_to_do() -> None:
    with pytest.raises(GalaxyError, match=r"killed.*memory.*`preset`"):
        in_own_process(os._exit, 137)
