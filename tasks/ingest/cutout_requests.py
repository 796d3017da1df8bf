"""Requests to a cutout service: few at a time, tried again with growing waits, and fewer when it asks for that."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from infra.remote import FIRST_WAIT, GarbledError
from tasks.ingest.cutout_pace import Pace, retry_after
from tasks.stamps.stamp import Refusal

Result = TypeVar("Result")

CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 10, 60, 180
"""Limits of one request: until it is connected, between two pieces of the answer, and until the end of the answer."""

TOO_MANY = 429
AGENT = "galaxy-lvm"
GAVE_UP = "service gave up"
"""Reason of an object whose attempts are used up."""

log = logging.getLogger(__name__)


class RequestFailedError(Exception):
    """A request brought nothing; the message says why and names no address.

    Attributes
    ----------
    status
        HTTP status, None without an answer.
    wait
        Seconds that the service asks to wait.
    """

    def __init__(self, trouble: str, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(trouble)
        self.status = status
        self.wait = wait

    @property
    def is_final(self) -> bool:
        """Whether the service refuses this request, and not just now."""
        return self.status is not None and 400 <= self.status < 500 and self.status != TOO_MANY


class NoAnswerError(Exception):
    """An object's tries are used up, or the service refuses it: what would be said of the object."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.reason}: {refusal.detail}")
        self.refusal = refusal


class StoppedError(Exception):
    """Nobody waits for the answer any more."""


class CutoutRequests:
    """A session with a service that several threads share.

    Parameters
    ----------
    url
        Of the service, possibly with user:password. Proxies are taken from the environment.
    connections
        Requests at a time, of all workers of a Dask cluster together.
    largest
        Bytes of the longest answer that can be right.
    """

    def __init__(self, url: str, connections: int, largest: int) -> None:
        self._url = url.rstrip("/")
        self._largest = largest
        self._slots = _slots(public(url), connections)
        self._pace = Pace()
        self._stopped = threading.Event()
        self._session = requests.Session()
        self._session.headers["User-Agent"] = AGENT
        self._session.max_redirects = 5
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=connections, pool_block=True, max_retries=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._session.close()

    def stop(self) -> None:
        """Let the threads that wait raise StoppedError."""
        self._stopped.set()

    def get(self, page: str, parameters: Mapping[str, str]) -> bytes:
        """What the service answers to one request.

        Raises
        ------
        RequestFailedError
            If it answers with an error, in part, too slowly, or not at all.
        StoppedError
            If `stop` was called.
        """
        while (wait := self._pace.wait()) > 0:
            self._sleep(wait)
        with self._slots:
            self._sleep(0)
            asked = time.monotonic()
            try:
                return self._get(page, parameters)
            except requests.RequestException as error:
                raise RequestFailedError(_in_words(error)) from None  # its own message has the address
            except RequestFailedError as error:
                if error.status == TOO_MANY or error.wait:
                    self._pace.slow_down(asked, error.wait)
                raise

    def persistently(self, ask: Callable[[], Result], attempts: int, what: str) -> Result:
        """What `ask` gives, tried again after failures that may pass.

        "Too many requests" is no attempt as long as others are answered meanwhile: it says nothing of the object.

        Raises
        ------
        NoAnswerError
            If every attempt failed, or the service refuses.
        StoppedError
            If `stop` was called.
        """
        attempt, answered = 1, self._pace.answered
        while True:
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            counts = True
            try:
                return ask()
            except RequestFailedError as error:
                trouble = str(error)
                if error.is_final:
                    raise NoAnswerError(Refusal(f"service answered {error.status}", detail=trouble)) from None
                wait = max(wait, error.wait)
                counts = error.status != TOO_MANY or self._pace.answered == answered
            except GarbledError as error:
                trouble = str(error)
            log.info("attempt %d at %s failed: %s", attempt, what, trouble)
            if counts and attempt == attempts:
                raise NoAnswerError(Refusal(GAVE_UP, detail=f"after {attempts} attempts: {trouble}"))
            attempt, answered = attempt + counts, self._pace.answered
            self._sleep(wait * random.uniform(1.0, 1.5))

    def _get(self, page: str, parameters: Mapping[str, str]) -> bytes:
        with self._session.get(
            f"{self._url}/{page}", params=parameters, timeout=(CONNECT_SECONDS, READ_SECONDS), stream=True
        ) as response:
            failure = None
            if response.status_code != requests.codes.ok:  # it is read all the same: the connection can be used again
                trouble = f"HTTP {response.status_code} {response.reason or ''}".strip()
                wait = retry_after(response.headers.get("Retry-After"))
                failure = RequestFailedError(trouble, response.status_code, wait)
            pieces, length, end = [], 0, time.monotonic() + WHOLE_SECONDS
            for piece in response.iter_content(1 << 12):
                pieces.append(piece)
                length += len(piece)
                if length > self._largest:
                    raise failure or RequestFailedError(f"the answer is longer than {self._largest} bytes")
                if time.monotonic() > end:
                    raise failure or RequestFailedError(f"the answer was not complete after {WHOLE_SECONDS} s")
            if failure:
                raise failure
        self._pace.speed_up()
        return b"".join(pieces)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise StoppedError


def public(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _in_words(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS} s"
    if isinstance(error, requests.exceptions.Timeout):
        return f"nothing came for {READ_SECONDS} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return "the answer broke off"
    if isinstance(error, requests.exceptions.ConnectionError):
        cause: BaseException | None = error
        while cause and not getattr(cause, "strerror", None):  # the system's own error, below those of the libraries
            cause = cause.__cause__ or cause.__context__
        return f"the connection failed: {getattr(cause, 'strerror', 'it was closed')}"
    return f"no answer: {type(error).__name__}"


def _slots(service: str, connections: int) -> AbstractContextManager[Any]:
    """What a thread holds while it asks: so many for all workers of a Dask cluster, or for this process."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return threading.BoundedSemaphore(connections)
    return _cluster_slots(f"{service} {connections}", connections, worker)


@lru_cache(maxsize=8)
def _cluster_slots(name: str, connections: int, worker: Any) -> AbstractContextManager[Any]:
    from distributed import Semaphore

    # threads of our own are none of Dask's and do not know their worker
    slots: AbstractContextManager[Any] = Semaphore(connections, name, scheduler_rpc=worker.scheduler, loop=worker.loop)
    return slots
