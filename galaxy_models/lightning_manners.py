"""How Lightning is made to behave inside a larger program: its signals and its chatter."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class StopSignal:
    """SIGTERM as a wish, for the training to look at between two steps.

    Lightning's own handler would end the training after any batch, which may be in the middle of a step, and the
    process's own may end it at any moment. Lightning sets its handler when a training begins, and puts the earlier one
    back when it ends; `listen` must be called in between as well.
    """

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """Be the one who hears SIGTERM, where this is the main thread: Python gives signals to no other."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the context lasts, and leave the process's own handler as it was."""
        before = signal.getsignal(signal.SIGTERM)
        self.listen()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    def _hear(self, number: int, frame: object) -> None:
        self.asked = True


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's banner and hints kept out of the user's terminal while the training runs."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # hints about loader workers, unused loggers and GPUs do not concern the loop above
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
