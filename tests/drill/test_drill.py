"""The short form of the drill: each kind of fault once. `make drill` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drill.drill import KINDS, run_drill


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_ingest_under_every_kind_of_fault_ends_byte_for_byte_the_same(tmp_path: Path) -> None:
    report = run_drill(tmp_path, moments=len(KINDS), seed=0)
    assert report.rounds >= 1
    assert report.moments.total() == len(KINDS)
