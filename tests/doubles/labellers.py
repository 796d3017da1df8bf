"""People who label, as their browsers do it: a sheet, its pictures, an answer to each after some thought, the next."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

CONNECTIONS = 6
"""To one host, as browsers do."""

PATIENCE = 2.8
"""Seconds for which the page's script tries again where no answer comes."""

TOKEN = re.compile(r'<meta name="csrf" content="(\w+)">')
STAMP = re.compile(r'data-name="([^",]+), ')
NUMBER = re.compile(r'name="after" value="(\d+)"')
PARTS = re.compile(r'(?:src|href)="(/(?:static|stamps)/[^"]+)"')
OPINIONS = {True: "yes", False: "no"}


@dataclass
class Log:
    """What happened to all people together.

    Attributes
    ----------
    seconds
        By what was asked for: `stamp`, `vote`, `next sheet`.
    errors
        Refusals and failures, as text.
    acknowledged
        Keys of the votes that the service said it has.
    spared
        Pictures that a browser had already.
    again
        Requests that were sent once more because no answer came.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    spared: int = 0
    again: int = 0


class Labeller:
    """One person with a browser of their own.

    Parameters
    ----------
    address
        Of the service.
    knows
        Says of a galaxy, by name, whether it is wanted.
    think
        Seconds from one answer to the next, in the middle.
    patience
        Seconds for which a service that cannot be reached is asked again; then that is an error.
    """

    def __init__(
        self, address: str, name: str, log: Log, knows: Callable[[str], bool], think: float, patience: float = PATIENCE
    ) -> None:
        self.name, self._address, self._log, self._knows = name, address, log, knows
        self._think, self._patience = think, patience
        self._chance = random.Random(name)
        self._token = ""
        self._kept: dict[str, tuple[float, str]] = {}
        connector = aiohttp.TCPConnector(limit_per_host=CONNECTIONS)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # cookies of an address that is a number
            timeout=aiohttp.ClientTimeout(60),
        )

    async def sign_in(self, password: str) -> None:
        """Open a session."""
        await self._page("/sign-in")
        await self._page("/sign-in", "", csrf=self._token, name=self.name, password=password)

    async def begin(self, name: str, catalogue: str, wanted: str) -> int:
        """A new search; its number."""
        await self._page("/searches/new")
        form = {"csrf": self._token, "name": name, "catalogue": catalogue, "wanted": wanted}
        path, _ = await self._page("/searches/new", "", **form)
        return int(path.rpartition("/")[2])

    async def label(self, search: int, until: float) -> None:
        """Label sheets of a search until a moment of the monotonic clock."""
        await asyncio.sleep(self._chance.uniform(0, 8 * self._think))  # they do not all come at once
        await self._page(f"/searches/{search}")
        sheet = 0
        while time.monotonic() < until:
            path, text = await self._page(
                f"/searches/{search}/rounds", "next sheet", csrf=self._token, kind="search", after=str(sheet)
            )
            number = NUMBER.search(text)
            sheet = int(number[1]) if number else sheet
            await asyncio.gather(*(self._picture(part) for part in dict.fromkeys(PARTS.findall(text))))
            for place, galaxy in enumerate(STAMP.findall(text)):
                await asyncio.sleep(self._think * self._chance.lognormvariate(0, 0.5))
                if time.monotonic() >= until:
                    return
                await self._vote(path, place, OPINIONS[self._knows(galaxy)])

    async def close(self) -> None:
        """Close the browser."""
        await self._session.close()

    async def _vote(self, sheet: str, place: int, answer: str) -> None:
        """One vote; sent again under the same key where no answer came."""
        key = secrets.token_hex(16)
        content = {"place": place, "answer": answer, "key": key}
        status, _, _ = await self._ask("POST", f"{sheet}/votes", "vote", json=content)
        if status == 200:
            self._log.acknowledged.add(f"{key}.{place}")

    async def _picture(self, path: str) -> None:
        """A part of a page, unless the browser has it; what may have changed is asked for by its tag."""
        fresh_until, tag = self._kept.get(path, (0.0, ""))
        if time.monotonic() < fresh_until:
            self._log.spared += 1
            return
        headers = {"if-none-match": tag} if tag else {}
        what = "stamp" if path.startswith("/stamps/") else "part of the page"
        _, told, _ = await self._ask("GET", path, what, headers=headers)
        caching = told.get("cache-control", "")
        if "no-store" not in caching:
            age = re.search(r"max-age=(\d+)", caching)
            self._kept[path] = (time.monotonic() + int(age[1]) if age else 0.0), told.get("etag", "")

    async def _page(self, path: str, what: str = "", **form: str) -> tuple[str, str]:
        """A page, or a form and the page that it leads to: its path and text."""
        method, more = ("POST", {"data": form}) if form else ("GET", {})
        _, told, text = await self._ask(method, path, what, headers={"accept": "text/html"}, **more)
        found = TOKEN.search(text)
        self._token = found[1] if found else self._token
        return told.get("path", path), text

    async def _ask(self, method: str, path: str, what: str, **more: Any) -> tuple[int, dict[str, str], str]:
        """Status, headers (and the `path` that it ended at) and text of an answer, its time and failure in the log."""
        headers = {"x-csrf-token": self._token, **more.pop("headers", {})}
        started = time.monotonic()
        while True:
            try:
                async with self._session.request(method, self._address + path, headers=headers, **more) as answer:
                    content = await answer.read()
                break
            except (aiohttp.ClientError, TimeoutError) as error:
                if time.monotonic() - started >= self._patience:
                    self._log.errors.append(f"{method} {path}: {type(error).__name__} {error}")
                    return 0, {}, ""
                self._log.again += 1
                await asyncio.sleep(0.4)
        if what:
            self._log.seconds[what].append(time.monotonic() - started)
        is_text = answer.content_type.startswith(("text/", "application/json"))
        text = content.decode() if is_text else ""
        if answer.status >= 400:
            self._log.errors.append(f"{method} {path}: {answer.status} {text[:300]}")
        told = {key.lower(): value for key, value in answer.headers.items()}
        return answer.status, {**told, "path": answer.url.path}, text
