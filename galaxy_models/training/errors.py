"""How a training can end before its last step, other than by a kill."""

from __future__ import annotations

import signal


class DivergedError(RuntimeError):
    """The loss or its gradient is not finite; the message names the step and the objects."""


class BatchTooLargeError(RuntimeError):
    """The device has no memory for the batch; the message names a size that was tried and fits."""


class Interrupted(SystemExit):
    """SIGTERM came; the state is saved and the process should end. Its exit status is 143."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message

    def __str__(self) -> str:
        """The message; SystemExit's own text is the exit status."""
        return self.message
