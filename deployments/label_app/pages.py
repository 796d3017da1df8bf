"""Pages from templates, and errors as pages or JSON, whichever was asked for."""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import Scope

from deployments.label_app.pictures import STRETCHES
from deployments.label_app.security import COOKIE, csrf_token, new_visitor_token
from deployments.label_app.service import service_of
from infra.errors import GalaxyError

TEMPLATES = Jinja2Templates(directory=Path(__file__).with_name("templates"))
STATIC = Path(__file__).with_name("static")
A_YEAR = "private, max-age=31536000, immutable"
"""For what never changes at its address."""

log = logging.getLogger(__name__)


def page(request: Request, template: str, status: int = 200, **content: Any) -> Response:
    """A page with what all pages show: who is signed in, and the token that its forms send along."""
    cookie = request.cookies.get(COOKIE) or new_visitor_token()
    service = service_of(request)
    shared = {
        "person": getattr(request.state, "person", None),
        "has_accounts": service.local_person is None,
        "csrf": csrf_token(service, cookie),
        "stretches": STRETCHES,
    }
    answer = TEMPLATES.TemplateResponse(request, template, {**shared, **content}, status_code=status)
    if COOKIE not in request.cookies:
        set_cookie(request, answer, cookie)
    return answer


class StaticParts(StaticFiles):
    """Style and script; under the address that pages give, which holds a digest of the content, browsers keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file."""
        answer = await super().get_response(path, scope)
        if answer.status_code == 200 and scope["query_string"]:
            answer.headers["Cache-Control"] = A_YEAR
        return answer


@cache
def static(name: str) -> str:
    """Address of a static part, which changes with its content."""
    return f"/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def set_cookie(request: Request, answer: Response, token: str) -> None:
    """Give a browser its token: never to scripts, never to other sites, and encrypted where pages are."""
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")


def add_error_pages(app: FastAPI) -> None:
    """Answer errors with what happened and what to do, never with a traceback."""

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 401 and _wants_page(request):
            return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", status_code=303)
        return _answer(request, error.status_code, str(error.detail))

    @app.exception_handler(GalaxyError)
    def mendable(request: Request, error: GalaxyError) -> Response:
        return _answer(request, 400, str(error))

    @app.exception_handler(RequestValidationError)
    def illegal(request: Request, error: RequestValidationError) -> Response:
        told = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return _answer(request, 422, "; ".join(told))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _answer(request, 500, "the service failed; its log says why. What was acknowledged is kept")


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _answer(request: Request, status: int, message: str) -> Response:
    if _wants_page(request):
        return page(request, "error.html", status, code=status, message=message)
    return JSONResponse({"error": message}, status)


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M")


def _rounded(value: float) -> str:
    """To two digits, which is more than an estimate knows."""
    return f"{float(f'{value:.2g}'):,.0f}"


TEMPLATES.env.filters["moment"] = _moment
TEMPLATES.env.filters["rounded"] = _rounded
TEMPLATES.env.globals["static"] = static
