"""What a home folder that cannot be used is told to be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.environment import prepare_environment, refuse_full_disk
from infra.errors import GalaxyError
from infra.settings import Settings


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    settings = Settings(home=tmp_path / "home", sky=tmp_path, mlflow_uri="sqlite://")
    with pytest.raises(GalaxyError, match=r"home: .*GALAXY_HOME"):
        prepare_environment(settings)


def test_a_full_disk_is_refused_before_a_database_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, sky=tmp_path, mlflow_uri="sqlite://")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(GalaxyError, match=r"3 MiB free"):
        refuse_full_disk(settings)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**30))
    refuse_full_disk(settings)
