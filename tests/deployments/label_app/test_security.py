"""What must be refused: writes without session, token or role, foreign hosts, hostile names, guesses, large bodies."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from deployments.label_app.accounts import Accounts
from deployments.label_app.addresses import is_loopback
from deployments.label_app.app import create_app
from deployments.label_app.database import Database
from deployments.label_app.pace import SignInPace
from deployments.label_app.security import LARGEST_BODY
from infra.errors import GalaxyError
from infra.settings import Settings
from tests.deployments.label_app.conftest import PASSWORD, Browser
from tests.deployments.label_app.sky import CATALOGUE

HOSTILE = "<script>alert(1)</script>' OR 1=1; DROP TABLE votes; --"


def routes(app: FastAPI, writes: bool) -> list[tuple[str, str]]:
    """Method and path of each route, with numbers in it."""
    found = []
    for route in [one for part in app.routes for one in getattr(part, "original_router", app).routes]:
        if isinstance(route, APIRoute):
            path = re.sub(r"\{catalogue\}", CATALOGUE, re.sub(r"\{\w+_id\}|\{row\}", "1", route.path))
            path = path.replace("{stretch}", "viewer").replace("{form}", "csv")
            found += [(method, path) for method in route.methods if (method not in ("GET", "HEAD")) == writes]
    return found


def test_every_write_is_refused_without_sign_in_or_token(
    app_with_accounts: FastAPI, signed_in: Callable[[str], Browser]
) -> None:
    writes = routes(app_with_accounts, writes=True)
    assert len(writes) >= 7
    stranger, labeller = Browser(app_with_accounts), signed_in("henrietta")
    stranger.get("/sign-in")
    for method, path in writes:
        for content in ({"json": {"csrf": labeller.token}}, {"data": {"name": "x"}}):
            bare = TestClient(app_with_accounts, base_url="http://127.0.0.1").request(method, path, **content)
            assert bare.status_code in (401, 403), (path, bare.text)
            without = labeller.client.request(method, path, **content)
            assert without.status_code == 403 and "token" in without.text, path
            of_another = labeller.client.request(method, path, headers={"x-csrf-token": stranger.token}, **content)
            assert of_another.status_code == 403, path
        if path != "/sign-in":
            answer = stranger.client.request(method, path, headers={"x-csrf-token": stranger.token}, json={})
            assert answer.status_code == 401, path
    assert labeller.get("/").status_code == 200, "and all that while she was signed in"


def test_nothing_is_read_without_sign_in(app_with_accounts: FastAPI) -> None:
    stranger = TestClient(app_with_accounts, base_url="http://127.0.0.1", follow_redirects=False)
    for method, path in routes(app_with_accounts, writes=False):
        answer = stranger.request(method, path)
        expected = 200 if path in ("/health", "/sign-in") else 401
        assert answer.status_code == expected, path
    page = stranger.get("/searches/new", headers={"accept": "text/html"})
    assert page.status_code == 303 and page.headers["location"] == "/sign-in?next=/searches/new"


def test_on_loopback_a_page_elsewhere_cannot_write(app: FastAPI, browser: Browser) -> None:
    for method, path in routes(app, writes=True):
        assert browser.client.request(method, path, data={"name": "x"}).status_code == 403, path
    rebound = TestClient(app, base_url="http://evil.example")
    answer = rebound.get("/")
    assert answer.status_code == 421 and "evil.example" in answer.text
    assert TestClient(app, base_url="http://localhost:4300").get("/health").status_code == 200


def test_a_viewer_looks_and_changes_nothing(signed_in: Callable[[str], Browser]) -> None:
    search = signed_in("henrietta").begin()
    viewer = signed_in("vera")
    assert viewer.get(f"/searches/{search}").status_code == 200
    assert viewer.get(f"/searches/{search}/results").status_code == 200
    for path in ("/searches/new", f"/searches/{search}/rounds"):
        answer = viewer.submit(path, name="mine", catalogue=CATALOGUE)
        assert answer.status_code == 403 and "viewer" in answer.text
    assert viewer.submit("/sign-out").url.path == "/sign-in"


def test_a_sign_in_ends_when_signed_out_or_removed(
    app_with_accounts: FastAPI, signed_in: Callable[[str], Browser], settings: Settings
) -> None:
    one, other = signed_in("henrietta"), signed_in("henrietta")
    old = dict(one.client.cookies)
    one.submit("/sign-out")
    one.client.cookies.update(old)
    assert one.client.get("/", headers={"accept": "application/json"}).status_code == 401, "the old token is dead"
    assert other.get("/").url.path == "/"
    database = Database(settings.label_database_url)
    Accounts(database).end("henrietta")
    database.close()
    assert other.client.get("/").status_code == 401
    assert Browser(app_with_accounts).sign_in("henrietta").status_code == 403


def test_cookie_and_headers(app_with_accounts: FastAPI) -> None:
    browser = Browser(app_with_accounts)
    browser.get("/sign-in")
    before = browser.client.cookies["galaxy_label"]
    data = {"csrf": browser.token, "name": "vera", "password": PASSWORD, "next": "//evil.example/"}
    answer = browser.client.post("/sign-in", data=data, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert answer.headers["location"] == "/", "never to another site"
    assert browser.client.cookies["galaxy_label"] != before, "a new token at sign-in"
    page = browser.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.findall(r"\son\w+=|style=|<script(?! src=\"/static)", page.text), "nothing inline"


def test_only_hashes_are_kept(settings: Settings, signed_in: Callable[[str], Browser]) -> None:
    browser = signed_in("vera")
    token = browser.client.cookies["galaxy_label"]
    kept = b"".join(path.read_bytes() for path in (settings.home / "label").glob("label.db*"))
    assert token.encode() not in kept and PASSWORD.encode() not in kept
    assert b"$argon2id$" in kept


def test_guessing_is_slowed_down(app_with_accounts: FastAPI) -> None:
    browser = Browser(app_with_accounts)
    answers = [browser.sign_in("vera", "wrong password").status_code for _ in range(5)]
    assert answers == [403] * 5
    right = browser.sign_in("vera")
    assert right.status_code == 429 and int(right.headers["retry-after"]) > 0


def test_the_pace_forgets_with_time() -> None:
    clock = [0.0]
    pace = SignInPace(most=2, seconds=10, clock=lambda: clock[0])
    pace.failed("name", "address")
    assert pace.wait("name", "address") == 0
    clock[0] = 4
    pace.failed("name", "address")
    assert pace.wait("name", "other") == 6 and pace.wait("another") == 0
    clock[0] = 10
    assert pace.wait("name", "address") == 0
    pace.failed("name")
    pace.succeeded("name")
    assert pace.wait("name") == 0


def test_names_are_text_and_nothing_else(browser: Browser) -> None:
    search = browser.begin(name=HOSTILE[:60])
    for page in (browser.get("/").text, browser.get(f"/searches/{search}").text):
        assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert browser.get("/").status_code == 200, "the tables are all there"
    refused = browser.submit("/searches/new", name="x", catalogue=CATALOGUE, wanted=HOSTILE)
    assert refused.status_code == 400 and "<script>alert" not in refused.text
    for name in ("", " ", "x" * 61, "zero\x00byte", "right\u202eleft"):
        assert browser.submit("/searches/new", name=name, catalogue=CATALOGUE).status_code == 400, name
    again = browser.submit("/searches/new", name=HOSTILE[:60], catalogue=CATALOGUE)
    assert again.status_code == 400 and "choose another name" in again.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/stamps/..%2f..%2flabel/0/viewer.jpg",
        "/stamps/%2e%2e/0/viewer.jpg",
        "/galaxies/..%5c..%5clabel/0",
        "/galaxies/....//label.db/0",
        f"/stamps/{CATALOGUE}/0/..%2fviewer.jpg",
    ],
)
def test_paths_lead_nowhere_else(browser: Browser, path: str) -> None:
    answer = browser.client.get(path)
    assert answer.status_code in (400, 404, 422)
    assert "create_app" not in answer.text


def test_large_bodies_are_refused(browser: Browser) -> None:
    headers = {"x-csrf-token": browser.token}
    told = browser.client.post("/searches/new", content=b"x" * (LARGEST_BODY + 1), headers=headers)
    assert told.status_code == 413
    pieces = (b"name=" + b"x" * 2**20 for _ in range(10))  # of a length that is not told beforehand
    kind = {"content-type": "application/x-www-form-urlencoded"}
    streamed = browser.client.post("/searches/new", content=pieces, headers={**headers, **kind})
    assert streamed.status_code in (400, 413)
    assert browser.get("/").status_code == 200


def test_votes_of_another_form_are_refused(browser: Browser) -> None:
    number, _ = browser.sheet(browser.begin())
    right = {"place": 0, "answer": "yes", "key": "abcdefgh"}
    for wrong in (
        {"answer": "maybe"},
        {"place": 99},
        {"place": -1},
        {"key": "x"},
        {"person": "somebody else"},
        {"place": "0; DROP TABLE votes"},
    ):
        answer = browser.send(f"/rounds/{number}/votes", **{**right, **wrong})
        assert answer.status_code == 422 and answer.json()["error"], wrong
    assert browser.send(f"/rounds/{10**30}/votes", **right).status_code == 422
    assert browser.send("/rounds/4711/votes", **right).status_code == 404


def test_beyond_loopback_accounts_are_demanded(settings: Settings) -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5
    with pytest.raises(GalaxyError, match="add-user"):
        create_app(settings, accounts_demanded=True)


def test_accounts_that_are_not_made(settings: Settings) -> None:
    accounts = Accounts(Database(settings.label_database_url))
    for name, role, password, told in (
        ("../vera", "labeller", PASSWORD, "user name"),
        ("x" * 61, "labeller", PASSWORD, "user name"),
        ("vera", "owner", PASSWORD, "roles are"),
        ("vera", "labeller", "short", "10 to 1000"),
    ):
        with pytest.raises(GalaxyError, match=told):
            accounts.add(name, role, password)
    assert accounts.count() == 0
    accounts.add("vera", "labeller", PASSWORD)
    with pytest.raises(GalaxyError, match="not given twice"):
        accounts.add("vera", "admin", PASSWORD)
