"""How fast a cutout service is asked: what it says of waiting is honoured, by all threads together."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tasks.ingest.cutout_pace import FIRST_INTERVAL, LONGEST_WAIT, Pace, retry_after


def test_retry_after_of_any_form_is_seconds_within_reason() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after("7") == 7
    assert retry_after(format_datetime(soon, usegmt=True)) == pytest.approx(30, abs=2)
    assert retry_after("86400") == LONGEST_WAIT
    for nonsense in (None, "", "-3", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"):
        assert retry_after(nonsense) == 0


def test_all_threads_slow_down_together_and_recover() -> None:
    pace = Pace()
    assert [pace.wait() for _ in range(3)] == [0, 0, 0]
    asked = time.monotonic()
    pace.slow_down(asked, 0)
    assert 0 < pace.wait() <= FIRST_INTERVAL
    pace.slow_down(asked, 0)  # it was under way already
    assert 0 < pace.wait() <= FIRST_INTERVAL
    pace.slow_down(asked + 2, 0)
    assert FIRST_INTERVAL < pace.wait() <= 2 * FIRST_INTERVAL
    pace.slow_down(asked, 30)
    assert 29 < pace.wait() <= 30
    for _ in range(50):
        pace.speed_up()
    assert pace._interval == 0
