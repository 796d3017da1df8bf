"""The label app over a small catalogue, with and without accounts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from deployments.label_app.accounts import Accounts
from deployments.label_app.app import create_app
from deployments.label_app.database import Database
from infra.settings import Settings
from tests.deployments.label_app.sky import CATALOGUE, is_edge_on, make_home

PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; tests work in copies."""
    home = tmp_path_factory.mktemp("made") / "home"
    make_home(home)
    return home


@pytest.fixture
def settings(made_home: Path, tmp_path: Path) -> Settings:
    """A home of this test's own; the stamps stay where they were made."""
    home = tmp_path / "home"
    shutil.copytree(made_home, home)
    return Settings(home=home, sky=home, mlflow_uri="sqlite:///none")


class Browser:
    """A client that keeps cookies and sends the page's token along, as the pages do."""

    def __init__(self, app: FastAPI) -> None:
        self.client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        self.token = ""

    def get(self, path: str, **more: Any) -> Any:
        answer = self.client.get(path, headers={"accept": "text/html", **more.pop("headers", {})}, **more)
        found = re.search(r'<meta name="csrf" content="([0-9a-f]+)">', answer.text)
        self.token = found[1] if found else self.token
        return answer

    def submit(self, path: str, **fields: Any) -> Any:
        data = {"csrf": self.token, **fields}
        return self.client.post(path, data=data, headers={"accept": "text/html"}, follow_redirects=True)

    def send(self, path: str, **content: Any) -> Any:
        return self.client.post(path, json=content, headers={"x-csrf-token": self.token})

    def sign_in(self, name: str, password: str = PASSWORD) -> Any:
        self.get("/sign-in")
        answer = self.submit("/sign-in", name=name, password=password)
        self.get("/")
        return answer

    def begin(self, name: str = "edge-on", wanted: str = "galaxy-000\ngalaxy-005\ngalaxy-010", **more: str) -> int:
        """A new search; its number."""
        self.get("/searches/new")
        answer = self.submit("/searches/new", name=name, catalogue=CATALOGUE, wanted=wanted, **more)
        assert answer.status_code == 200, answer.text
        return int(answer.url.path.rpartition("/")[2])

    def sheet(self, search: int, kind: str = "search", after: int = 0) -> tuple[int, list[tuple[str, str]]]:
        """A sheet's number, and of each stamp its galaxy and the reason."""
        answer = self.submit(f"/searches/{search}/rounds", kind=kind, after=after)
        assert answer.status_code == 200, answer.text
        number = int(answer.url.path.rpartition("/")[2])
        return number, re.findall(r'data-name="(galaxy-\d+), ([a-z ]+)"', answer.text)

    def label(self, search: int, kind: str = "search", after: int = 0) -> list[tuple[str, bool]]:
        """Answer a whole sheet truly; the galaxies and whether each is edge-on."""
        number, stamps = self.sheet(search, kind, after)
        for place, (name, _) in enumerate(stamps):
            answer = "yes" if is_edge_on(name) else "no"
            told = self.send(f"/rounds/{number}/votes", place=place, answer=answer, key=f"{number:08d}-{place:08d}")
            assert told.status_code == 200, told.text
        return [(name, is_edge_on(name)) for name, _ in stamps]


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    """On loopback, without accounts."""
    app = create_app(settings)
    yield app
    app.state.service.close()


@pytest.fixture
def browser(app: FastAPI) -> Browser:
    """Somebody on this machine, with a page open."""
    browser = Browser(app)
    browser.get("/")
    return browser


@pytest.fixture(scope="session")
def made_accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a viewer, two labellers and an admin; made once, as hashing passwords is slow on purpose."""
    path = tmp_path_factory.mktemp("accounts") / "label.db"
    database = Database(f"sqlite:///{path}")
    for name, role in (("vera", "viewer"), ("henrietta", "labeller"), ("cecilia", "labeller"), ("jocelyn", "admin")):
        Accounts(database).add(name, role, PASSWORD)
    database.close()
    return path


@pytest.fixture
def app_with_accounts(settings: Settings, made_accounts: Path) -> Iterator[FastAPI]:
    """Where people must sign in."""
    (settings.home / "label").mkdir()
    shutil.copy(made_accounts, settings.home / "label")
    app = create_app(settings, accounts_demanded=True)
    yield app
    app.state.service.close()


@pytest.fixture
def signed_in(app_with_accounts: FastAPI) -> Callable[[str], Browser]:
    """Opens a browser for somebody."""

    def open_browser(name: str) -> Browser:
        browser = Browser(app_with_accounts)
        answer = browser.sign_in(name)
        assert answer.status_code == 200, answer.text
        return browser

    return open_browser
