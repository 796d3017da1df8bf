"""Work whose memory must come back: it is done in a process that ends with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from infra.errors import GalaxyError

Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_own_process(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What `work` returns or raises; it is a module's function, and all that it takes and gives can be pickled.

    Raises
    ------
    GalaxyError
        If the process was killed, as the system does where memory ends.
    """
    # a forked process would begin with this one's memory and threads
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, *args, **kwargs).result()
        except BrokenProcessPool:
            raise GalaxyError(
                "a process that tried a few steps was killed, most likely for want of memory; choose a smaller "
                "`preset`, or free memory"
            ) from None
