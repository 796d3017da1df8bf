"""What every request must pass: known hosts, bounded bodies, and for writes a person, a role and a token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.label_app.people import Person
from deployments.label_app.service import Service, service_of

COOKIE = "galaxy_label"
TOKEN_FIELD, TOKEN_HEADER = "csrf", "x-csrf-token"
LARGEST_BODY = 8 * 2**20
"""Bytes of a request: some uploaded pictures."""

READS = ("GET", "HEAD", "OPTIONS")
OPEN_TO_ALL = ("/sign-in", "/health")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Doorkeeper:
    """Refuses foreign Host headers and bodies that are too large, and gives every answer its security headers.

    A page of elsewhere whose name is made to resolve to 127.0.0.1 (DNS rebinding) is told by its Host header.

    Parameters
    ----------
    hosts
        Names that the service is asked by, without port; none: any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = _without_port(headers.get("host", ""))
        if self._hosts and host not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            await PlainTextResponse(
                f"this service is not asked by the name {host!r}, only by {names}; `galaxy label --allowed-host NAME` "
                "adds one",
                status_code=421,
            )(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            await PlainTextResponse(_too_large(), status_code=413)(scope, receive, send)
            return
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                raise HTTPException(413, _too_large())
            return message

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
                answer.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, bounded, guarded)


def _too_large() -> str:
    return f"the request is larger than {LARGEST_BODY // 2**20} MiB; send smaller or fewer pictures"


def _without_port(host: str) -> str:
    name, mark, port = host.rpartition(":")
    return (name if mark and port.isdigit() else host).lower()


def new_visitor_token() -> str:
    """For the cookie of a browser that has not signed in; it ties the pages' tokens to it."""
    return secrets.token_urlsafe(32)


def csrf_token(service: Service, cookie: str) -> str:
    """What a page must send along to write: only we can make it, and only for one cookie."""
    return hmac.new(service.csrf_key, cookie.encode(), hashlib.sha256).hexdigest()


def person_of(request: Request) -> Person | None:
    """Who asks; on a service without sign-in whoever works on this machine."""
    service = service_of(request)
    if service.local_person is not None:
        return service.local_person
    cookie = request.cookies.get(COOKIE, "")
    return service.accounts.person(cookie) if cookie else None


MaybePerson = Annotated[Person | None, Depends(person_of)]


async def guard(request: Request, person: MaybePerson) -> None:
    """Refuse whoever is not signed in; and each write without the page's token, or by somebody who may only look.

    Every route depends on it.
    """
    request.state.person = person
    path, is_open = request.url.path, request.url.path in OPEN_TO_ALL
    if person is None and not is_open:
        raise HTTPException(401, "sign in first")
    if request.method in READS:
        return
    cookie = request.cookies.get(COOKIE, "")
    token = request.headers.get(TOKEN_HEADER) or (await request.form()).get(TOKEN_FIELD)
    expected = csrf_token(service_of(request), cookie)
    if not cookie or not isinstance(token, str) or not hmac.compare_digest(token.encode(), expected.encode()):
        raise HTTPException(403, "the page's token is missing or old; load the page again")
    if person is not None and not is_open and path != "/sign-out" and not person.may("labeller"):
        raise HTTPException(403, f"{person.name} has the role {person.role}, which may look and not change anything")


def known_person(person: MaybePerson) -> Person:
    """Who asks, once `guard` has let them pass."""
    if person is None:
        raise HTTPException(401, "sign in first")
    return person


def known_admin(person: Annotated[Person, Depends(known_person)]) -> Person:
    """Who asks, refused unless an admin."""
    if not person.may("admin"):
        raise HTTPException(403, f"{person.name} has the role {person.role}; only an admin may do this")
    return person


KnownPerson = Annotated[Person, Depends(known_person)]
KnownAdmin = Annotated[Person, Depends(known_admin)]
