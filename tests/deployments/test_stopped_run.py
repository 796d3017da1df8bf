"""`galaxy run` that is asked to stop: the terminal says what was saved, and that the same command carries on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments import cli
from galaxy_models.training import Interrupted

CARRIES_ON = "The same command carries on from there"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home of the test's own, of which nothing goes into this process's environment."""
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    monkeypatch.setattr(cli, "prepare_environment", lambda settings: None)
    monkeypatch.setattr(cli, "mark_run", lambda settings: None)
    monkeypatch.setattr(cli, "stop_leftovers", lambda settings: 0)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def stopped_by(end: BaseException, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[str]]:
    """Exit status and lines of a run whose flow ends so."""

    def ends(**options: str) -> None:
        raise end

    monkeypatch.setattr("flows.survey_run.survey_run", ends)
    result = CliRunner().invoke(cli.app, ["run"])
    return result.exit_code, result.output.splitlines()


def test_a_training_says_what_it_has_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = "asked to stop; saved after step 3 of 10 in /somewhere/that/is/far/away/from/here/training/checkpoint.pt"
    code, lines = stopped_by(Interrupted(saved), monkeypatch)
    assert code == 143 and lines[-1] == f"{saved}. {CARRIES_ON}"


def test_other_work_says_that_what_is_finished_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = stopped_by(SystemExit(143), monkeypatch)
    assert code == 143 and lines[-1] == f"asked to stop; what is finished is kept. {CARRIES_ON}"


def test_other_ends_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = stopped_by(SystemExit(2), monkeypatch)
    assert code == 2 and CARRIES_ON not in lines[-1]
