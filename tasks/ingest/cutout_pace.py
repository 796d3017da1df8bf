"""How fast a service may be asked, from what it says: "too many requests", and Retry-After."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT = 120.0
"""Seconds. A service that wants to be left alone for longer is asked again after this, and at last given up."""

FIRST_INTERVAL, LONGEST_INTERVAL = 0.05, 0.5
"""Seconds between requests of a process after the first "too many requests", and after many."""

RECOVERY = 0.85
"""Factor of that interval for each good answer; "too many requests" double it."""


class Pace:
    """When the next request may go: at once, until the service asks for less; then all threads slow down together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interval = 0.0
        self._next = self._slowed = -float("inf")
        self.answered = 0
        """Good answers so far."""

    def wait(self) -> float:
        """Seconds to wait before asking again; 0 is leave to go now."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return self._next - now
            self._next = now + self._interval
            return 0.0

    def slow_down(self, asked: float, seconds: float) -> None:
        """Let nobody ask for some seconds, or double the interval if none are given; for a request of time `asked`."""
        with self._lock:
            now = time.monotonic()
            if not seconds and asked > self._slowed:  # what was asked before says nothing of the new interval
                self._interval = min(max(2 * self._interval, FIRST_INTERVAL), LONGEST_INTERVAL)
                self._slowed = now
            self._next = max(self._next, now + max(seconds, self._interval))

    def speed_up(self) -> None:
        """Count a good answer, and shorten the interval a little."""
        with self._lock:
            self.answered += 1
            self._interval *= RECOVERY
            if self._interval < FIRST_INTERVAL / 4:
                self._interval = 0.0


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; at most LONGEST_WAIT, 0 without sense."""
    text = (header or "").strip()
    try:
        if text[:1].isdecimal():
            seconds = float(text)
        else:
            moment = parsedate_to_datetime(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - datetime.now(UTC)).total_seconds()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)
