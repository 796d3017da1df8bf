"""`galaxy label`: who may use it, and where it refuses to start."""

from __future__ import annotations

from pathlib import Path

from tests.deployments.label_app.process import galaxy

PASSWORD = "correct horse battery"


def test_accounts_come_from_standard_input_and_are_demanded_beyond_loopback(tmp_path: Path) -> None:
    refused = galaxy(tmp_path, "label", "--host", "0.0.0.0", "--port", "1")
    assert refused.returncode == 1
    assert "galaxy label add-user NAME" in refused.stderr and "Traceback" not in refused.stderr
    short = galaxy(tmp_path, "label", "add-user", "vera", stdin="short\n")
    assert short.returncode == 1 and "10 to 1000" in short.stderr
    assert "No such option" in galaxy(tmp_path, "label", "add-user", "vera", "--password", PASSWORD).stderr
    made = galaxy(tmp_path, "label", "add-user", "vera", "--role", "admin", stdin=PASSWORD + "\n")
    assert made.returncode == 0, made.stderr
    assert "vera may sign in as admin" in made.stdout and PASSWORD not in made.stdout
    twice = galaxy(tmp_path, "label", "add-user", "vera", stdin=PASSWORD + "\n")
    assert twice.returncode == 1 and "not given twice" in twice.stderr
    assert galaxy(tmp_path, "label", "remove-user", "vera").returncode == 0
    assert galaxy(tmp_path, "label", "remove-user", "vera").returncode == 1
