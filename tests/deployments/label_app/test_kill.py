"""`kill -9` in the middle of the load: each vote that was acknowledged is there when the service is up again."""

from __future__ import annotations

import signal
import threading

import pytest
import requests

from infra.settings import Settings
from tests.deployments.label_app.process import Page, start, votes_in
from tests.deployments.label_app.sky import CATALOGUE
from tests.end_to_end.home import free_port

PEOPLE, ENOUGH = 6, 120


@pytest.mark.slow
def test_no_acknowledged_vote_is_lost(settings: Settings) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = start(settings.home, port)
    acknowledged: set[str] = set()
    enough = threading.Event()

    def label(number: int) -> None:
        page = Page(address)
        search = page.submit("/searches/new", name=f"search {number}", catalogue=CATALOGUE, wanted="galaxy-000")
        sheet = page.submit(f"/searches/{search.url.rpartition('/')[2]}/rounds", kind="search").url.rpartition("/")[2]
        for turn in range(10_000):
            key = f"person{number}-{turn:08d}"
            try:
                told = page.send(f"/rounds/{sheet}/votes", place=turn % 16, answer="yes", key=key)
            except requests.RequestException:
                return  # killed
            assert told.status_code == 200, told.text
            acknowledged.add(f"{key}.{turn % 16}")
            if len(acknowledged) >= ENOUGH:
                enough.set()

    threads = [threading.Thread(target=label, args=(number,), daemon=True) for number in range(PEOPLE)]
    for thread in threads:
        thread.start()
    try:
        assert enough.wait(180), (settings.home / "label.log").read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for thread in threads:
        thread.join(60)
    again = start(settings.home, port)
    try:
        assert "search 0" in requests.get(address, timeout=30).text
        kept = votes_in(settings.home)
    finally:
        again.terminate()
        again.wait(30)
    assert len(acknowledged) >= ENOUGH
    assert acknowledged <= kept
