"""Files by path or URL: which file system serves them, and reading over a connection that may fail."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from infra.errors import GalaxyError

Result = TypeVar("Result")

ATTEMPTS = 6
"""Reads of one file before the run gives up; waits grow from half a second to sixteen."""

FIRST_WAIT = 0.5
"""Seconds; doubled after each attempt, and between half and the whole of it by chance."""

TIMEOUT_SECONDS = 60
FORBIDDEN = (401, 403)

log = logging.getLogger(__name__)


class GarbledError(Exception):
    """What came over a connection is not what was asked for; another attempt may bring it."""


def is_url(location: str | Path) -> bool:
    """Whether it is a URL such as s3://bucket/folder or https://host/folder, and no path."""
    return "://" in str(location)


def shown(location: str | Path) -> str:
    """A path, or a URL without what may be secret in it: user, password and query."""
    protocol, mark, rest = str(location).partition("://")
    if not mark:
        return str(location)
    host, slash, path = rest.partition("/")
    return f"{protocol}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def join(location: str | Path, name: str) -> str:
    """The path or URL of `name` below a folder's."""
    return f"{str(location).rstrip('/')}/{name}" if name else str(location)


def file_system(location: str | Path) -> tuple[Any, str]:
    """The fsspec file system that serves a path or URL, and the path in it.

    S3 takes endpoint, region and credentials from the usual AWS variables and files. Where there are none, or with
    AWS_NO_SIGN_REQUEST=YES, buckets are read as anybody may read them.

    Raises
    ------
    GalaxyError
        If no installed package knows the URL's protocol.
    """
    protocol = str(location).partition("://")[0] if is_url(location) else "file"
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):
        options = {
            "anon": not has_credentials(),
            "use_listings_cache": False,  # others write while we look
            "config_kwargs": {"connect_timeout": TIMEOUT_SECONDS, "read_timeout": TIMEOUT_SECONDS},
        }
    elif protocol in ("http", "https"):
        options = {"use_listings_cache": False, "client_kwargs": {"timeout": _http_timeout()}}
    try:
        system, path = fsspec.core.url_to_fs(str(location), **options)
    except (ValueError, ImportError) as error:
        raise GalaxyError(f"{location}: {error}; give a path, or a URL with s3://, https:// or http://") from None
    return system, str(path)


def exists(location: str | Path) -> bool:
    """Whether there is a file or folder at a path or URL."""
    system, path = file_system(location)
    return bool(system.exists(path))


def has_credentials() -> bool:
    """Whether requests to S3 can, and may, be signed."""
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").upper() in ("YES", "TRUE", "1"):
        return False
    return _finds_credentials(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))


@lru_cache(maxsize=4)
def _finds_credentials(_environment: tuple[tuple[str, str], ...]) -> bool:
    """Whether there are any in this environment; looking may ask a network service, so once is enough."""
    import botocore.session

    return botocore.session.get_session().get_credentials() is not None


def is_local(system: Any) -> bool:
    """Whether a file system is this machine's own."""
    return isinstance(system, LocalFileSystem)


def persistently(
    read: Callable[[], Result], what: str, *, attempts: int = ATTEMPTS, wait: float = FIRST_WAIT
) -> Result:
    """What `read` gives, tried again after failures that may pass: lost connections, busy servers, garbled content.

    Raises
    ------
    FileNotFoundError, PermissionError
        At once: another attempt would find the same.
    GarbledError
        If the content is garbled at every attempt.
    GalaxyError
        If every attempt failed otherwise; the message names `what`.
    """
    for attempt in range(1, attempts + 1):
        try:
            return read()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # each library has errors of its own for a lost connection
            if getattr(error, "status", None) in FORBIDDEN:
                raise PermissionError(f"the server answers {error.status}") from error  # type: ignore[attr-defined]
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            if attempt == attempts:
                if isinstance(error, GarbledError):
                    raise
                raise GalaxyError(
                    f"cannot read {shown(what)} after {attempts} attempts: {_told(error)}. What is "
                    "finished is kept; see that the service answers, and run again"
                ) from error
            log.info("attempt %d at %s failed: %s", attempt, shown(what), _told(error))
            time.sleep(wait * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def _told(error: Exception) -> str:
    """Kind and words of an error, without the user and password of an address in them."""
    return f"{type(error).__name__}: {re.sub(r'//[^/@]*@', '//', str(error))}"


def _http_timeout() -> Any:
    import aiohttp

    # no limit on the whole: a large file over a thin line takes what it takes, as long as something comes
    return aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
