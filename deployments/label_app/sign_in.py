"""The pages to sign in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from starlette.responses import RedirectResponse

from deployments.label_app.pages import page, set_cookie
from deployments.label_app.security import COOKIE
from deployments.label_app.service import service_of

router = APIRouter()


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> Response:
    """The form."""
    return page(request, "sign_in.html", next=_own_path(next), problem="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=400)] = "",
    password: Annotated[str, Form(max_length=4000)] = "",
    next: Annotated[str, Form(max_length=400)] = "/",
) -> Response:
    """Check name and password, not more often than is decent, and give the browser a new token."""
    service = service_of(request)
    address = request.client.host if request.client else "unknown"
    keys = (f"name {name.lower()[:80]}", f"address {address}")
    wait = service.pace.wait(*keys)
    if wait:
        problem = f"too many attempts; try again in {wait / 60 + 1:.0f} minutes"
        answer = page(request, "sign_in.html", 429, next=_own_path(next), problem=problem)
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    token = service.accounts.sign_in(name, password)
    if token is None:
        service.pace.failed(*keys)
        return page(request, "sign_in.html", 403, next=_own_path(next), problem="name or password is wrong")
    service.pace.succeeded(keys[0])
    response = RedirectResponse(_own_path(next), status_code=303)
    set_cookie(request, response, token)
    return response


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End this browser's sign-in."""
    service_of(request).accounts.sign_out(request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _own_path(path: str) -> str:
    """A path of this service, whatever was asked for: `//elsewhere` and `https:` lead away."""
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_own else "/"
