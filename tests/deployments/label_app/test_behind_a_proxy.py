"""Nobody gets past the proxy of the compose file, and the app believes it alone about who asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from starlette.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from deployments.label_app.addresses import trusted_proxies
from deployments.label_app.app import create_app
from deployments.label_app.command import KEEP_ALIVE_SECONDS
from infra.errors import GalaxyError
from infra.settings import Settings
from tests.deployments.label_app.conftest import PASSWORD

FOLDER = Path(__file__).parents[3] / "infra" / "label"
NAME = "label.example.org"
PROXY, STRANGER = "172.30.43.2", "203.0.113.7"
SAID = {"x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.1", "host": NAME}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def test_only_the_proxy_is_published(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"proxy", "label", "database"}
    assert [name for name, service in services.items() if "ports" in service or "network_mode" in service] == ["proxy"]
    assert {port.split(":")[0] for port in services["proxy"]["ports"]} == {"80", "443"}
    assert "outer" not in services["label"]["networks"] and services["database"]["networks"] == ["store"]
    assert compose["networks"]["store"]["internal"] is True


def test_the_app_demands_accounts_and_believes_the_proxy_alone(compose: dict[str, Any]) -> None:
    words = compose["services"]["label"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--host"] == "0.0.0.0", "any address but loopback demands accounts"
    assert options["--proxy"] == compose["services"]["proxy"]["networks"]["inner"]["ipv4_address"] == PROXY
    assert options["--allowed-host"] == "${GALAXY_LABEL_NAME}"
    assert compose["services"]["label"]["read_only"] and compose["services"]["label"]["cap_drop"] == ["ALL"]


def test_nothing_secret_is_written_down(compose: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yaml").read_text()
    assert re.findall(r"://\w+:[^@\s]+@", text) == []
    for service in compose["services"].values():
        for key, value in service.get("environment", {}).items():
            is_secret = "PASSWORD" in key or "SECRET" in key or "TOKEN" in key
            assert not is_secret or value.startswith("/run/secrets/"), key
    [secret] = compose["secrets"].values()
    assert secret["file"].startswith("${GALAXY_LABEL_PASSWORD_FILE:?")


def test_what_the_files_name_is_there(compose: dict[str, Any]) -> None:
    build = compose["services"]["label"]["build"]
    project = (FOLDER / build["context"]).resolve()
    dockerfile = (project / build["dockerfile"]).read_text()
    for source in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE):
        assert all((project / name).exists() for name in source.split()), source
    assert not re.search(r"^USER (root|0)", dockerfile, re.MULTILINE) and "USER 1000" in dockerfile


def test_the_proxy_brings_strict_transport_and_closes_connections_first() -> None:
    text = (FOLDER / "Caddyfile").read_text()
    assert text.count("{") == text.count("}")
    assert re.search(r'Strict-Transport-Security "max-age=(\d{8,})', text)
    assert "{$GALAXY_LABEL_NAME}" in text and "reverse_proxy label:4300" in text
    keep = re.search(r"keepalive (\d+)s", text)
    assert keep and int(keep[1]) < KEEP_ALIVE_SECONDS, "else a vote may meet a connection that is just being closed"


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "172.30.43.0/28", "caddy", ""])
def test_a_proxy_is_one_address(proxy: str) -> None:
    with pytest.raises(GalaxyError, match="is no address"):
        trusted_proxies([proxy])


@pytest.fixture
def public(app_with_accounts: FastAPI, settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings, accounts_demanded=True, hosts=[NAME])
    yield app
    app.state.service.close()


@contextmanager
def from_address(app: FastAPI, address: str) -> Iterator[TestClient]:
    """A client at an address, before the app as uvicorn puts it up."""
    believed = ProxyHeadersMiddleware(app, trusted_proxies([PROXY]))  # type: ignore[arg-type]
    with closing(TestClient(believed, base_url=f"http://{NAME}", client=(address, 4711), follow_redirects=False)) as it:  # type: ignore[arg-type]
        yield it


def test_cookies_are_secure_behind_the_proxy(public: FastAPI) -> None:
    with from_address(public, PROXY) as client:
        page = client.get("/sign-in", headers=SAID)
        assert "secure" in page.headers["set-cookie"].lower()
        token = re.search(r'name="csrf" content="(\w+)"', page.text)
        cookie = page.headers["set-cookie"].split(";")[0]
        assert token
        form = {"csrf": token[1], "name": "vera", "password": PASSWORD}
        answer = client.post("/sign-in", data=form, headers={**SAID, "cookie": cookie})
        assert answer.status_code == 303 and "secure" in answer.headers["set-cookie"].lower()


def test_a_stranger_s_word_about_who_asks_is_not_believed(public: FastAPI) -> None:
    with from_address(public, STRANGER) as client:
        page = client.get("/sign-in", headers=SAID)
        assert "secure" not in page.headers["set-cookie"].lower(), "not https because a stranger says so"
        cookie = page.headers["set-cookie"].split(";")[0]
        token = re.search(r'name="csrf" content="(\w+)"', page.text)
        assert token
        for number in range(6):  # other names and other addresses each time, as a guesser would say
            said = {**SAID, "x-forwarded-for": f"198.51.100.{number}", "cookie": cookie}
            form = {"csrf": token[1], "name": f"guess{number}", "password": "wrong password"}
            answer = client.post("/sign-in", data=form, headers=said)
        assert answer.status_code == 429, "all six came from one address"
