"""The wheel: it holds the five packages with their definitions and no tests, and imports from an empty folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = {"flows", "tasks", "galaxy_models", "deployments", "infra"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: building leaves folders beside the sources.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (PROJECT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((PROJECT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "."]
    subprocess.run([*command, "--wheel-dir", str(folder)], cwd=folder / "source", check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    assert "deployments/surveys/real_sky.toml" in names
    assert "deployments/profiles/laptop.toml" in names
    assert {"templates/round.html", "static/sheet.js", "migrations/versions/events_and_accounts.py"} <= {
        name.removeprefix("deployments/label_app/") for name in names
    }
    assert not [name for name in names if "test_" in name]


def test_wheel_imports_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        "import infra.locate, galaxy_models.predictor, tasks.chain;"
        "assert infra.locate.__file__.startswith(sys.path[0]), infra.locate.__file__;"
        "chain = tasks.chain.open_chain('embedded', 'laptop'); print(chain.folder('ingest').key)"
    )
    # -I: neither the folder of the checkout nor PYTHONPATH helps.
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=empty, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 12
