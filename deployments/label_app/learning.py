"""The learners at work: in threads of their own, one for each search, kept as long as its labels are the same."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from deployments.label_app.catalogues import Catalogue
from galaxy_models.preference import Preference

P = ParamSpec("P")
T = TypeVar("T")

WORKERS = 2
NICENESS = 10
"""Of the learners' threads: whoever votes or looks at a stamp does not wait while others' sheets are learnt."""

KEPT_LEARNERS = 32
"""Searches whose learner stays in memory; one takes four bytes a galaxy."""


@dataclass(frozen=True)
class Teaching:
    """What a learner learns from.

    Attributes
    ----------
    rows, wanted, reasons
        (n,) labelled rows, whether each is wanted, and why it was shown.
    digest
        Of the labels, the catalogue and the model.
    """

    rows: NDArray[np.int64]
    wanted: NDArray[np.bool_]
    reasons: tuple[str, ...]
    digest: str

    @property
    def is_enough(self) -> bool:
        """Whether there is anything to look for: at least one galaxy that is wanted."""
        return bool(self.wanted.any())


class Learners:
    """Learns, in a few threads, what each search looks for.

    Each computes by itself: several threads of BLAS for one small matrix would wait for each other on busy processors.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        self._blas = threadpool_limits(1, user_api="blas")
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="learner", initializer=_let_others_first)
        self._known: OrderedDict[int, tuple[str, Preference]] = OrderedDict()
        self._busy: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that takes long in one of the threads, while the service goes on answering."""
        return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def preference(self, search_id: int, catalogue: Catalogue, teaching: Teaching, seed: int) -> Preference:
        """The learner of a search after this teaching; called in one of the threads."""
        with self._lock:
            busy = self._busy.setdefault(search_id, threading.Lock())
        with busy:  # two people who ask at once wait for one fit
            digest, preference = self._known.get(search_id, ("", None))
            if preference is None or digest != teaching.digest:
                preference = Preference.learn(
                    catalogue.features.features, teaching.rows, teaching.wanted, reasons=teaching.reasons, seed=seed
                )
        with self._lock:
            self._known[search_id] = teaching.digest, preference
            self._known.move_to_end(search_id)
            while len(self._known) > KEPT_LEARNERS:
                self._known.popitem(last=False)
        return preference

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._blas.restore_original_limits()


def _let_others_first() -> None:
    """Lower the priority of this thread alone, which Linux can."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
