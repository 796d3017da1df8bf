"""How often somebody may try to sign in."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_KEYS = 10_000
"""Names and addresses that are remembered; the oldest are forgotten."""


class SignInPace:
    """Counts failures by key (a name, an address), and says how long to wait after too many.

    Parameters
    ----------
    most
        Failures within `seconds`.
    clock
        Seconds that never go back.
    """

    def __init__(self, most: int = 5, seconds: float = 300, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, *keys: str) -> float:
        """Seconds until another attempt is allowed for all of the keys; 0 if it is now."""
        with self._lock:
            return max(self._wait_of(key) for key in keys)

    def failed(self, *keys: str) -> None:
        """Count a failure for each key."""
        with self._lock:
            for key in keys:
                self._failures.setdefault(key, deque(maxlen=self._most)).append(self._clock())
                self._failures.move_to_end(key)
            while len(self._failures) > MOST_KEYS:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget a key's failures."""
        with self._lock:
            self._failures.pop(key, None)

    def _wait_of(self, key: str) -> float:
        failures = self._failures.get(key, deque())
        if len(failures) < self._most:
            return 0.0
        return max(0.0, failures[0] + self._seconds - self._clock())
