"""A home of its own for each test, and models small enough to register in a moment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import galaxy_models
from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.predictor import save_model
from infra.profile import Profile
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition

torch.set_num_threads(1)

LVM = '''
"""An embedding of two numbers: brightness, and a constant that tells this code from another version of it."""
import numpy as np
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(nn.init.constant_(__import__("torch").empty(1), 1.0))

    def predict_columns(self, rgb, border, flux):
        mean = (rgb.mean(dim=(1, 2, 3)) * self.scale).detach().cpu().numpy()
        return {{"embedding": np.stack([mean, np.full_like(mean, {answer})], axis=1)}}


def build(card):
    return Tiny()
'''


@pytest.fixture(scope="session")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Settings]:
    """Makes settings with a home that has a fresh tracking database; the database is made once and copied."""
    template = tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    def make() -> Settings:
        home = tmp_path_factory.mktemp("home")
        database = home / "mlflow" / "mlflow.db"
        database.parent.mkdir()
        if template.exists():
            shutil.copyfile(template, database)
        settings = Settings(home=home, sky=home / "no-sky", mlflow_uri=f"sqlite:///{database}")
        if not template.exists():
            from tasks.track.client import connect

            connect(settings)
            shutil.copyfile(database, template)
        return settings

    return make


@pytest.fixture
def settings(settings_of: Callable[[], Settings]) -> Settings:
    """A fresh home."""
    return settings_of()


@pytest.fixture(scope="session")
def survey() -> SurveyDefinition:
    """The smallest definition."""
    return SurveyDefinition.model_validate(
        {
            "name": "tiny",
            "units": "nanomaggy",
            "bands": ["g", "r", "z"],
            "stamp_size": 32,
            "sources": [{"kind": "simulated", "name": "sim", "count": 8}],
        }
    )


@pytest.fixture(scope="session")
def profile() -> Profile:
    """The defaults."""
    return Profile(name="test")


@pytest.fixture
def package_with(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a copy of galaxy_models whose large vision model says `answer` in its embedding."""

    def make(answer: float) -> Path:
        source = Path(next(iter(galaxy_models.__path__)))
        target = tmp_path / f"code-{answer:g}" / "galaxy_models"
        target.mkdir(parents=True, exist_ok=True)
        for name in ("__init__", "card", "inputs", "photometry", "predictor"):
            shutil.copyfile(source / f"{name}.py", target / f"{name}.py")
        (target / "lvm.py").write_text(LVM.format(answer=answer))
        return target

    return make


@pytest.fixture
def tiny_result(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes the result of a training stage, its model for `package_with`'s code."""

    def make(scale: float = 1.0, **more: Any) -> dict[str, Any]:
        folder = tmp_path / f"model-{scale:g}"
        inputs = InputSpec(("g", "r", "z"), 48, 32, 1, (0.2, 0.3), unknown_pixel_scale=True)
        network = torch.nn.Module()
        network.scale = torch.nn.Parameter(torch.full((1,), float(scale)))
        save_model(folder, ModelCard("galaxy-lvm", {"kind": "lvm"}, inputs), network)
        metrics = {"sim.psnr": 20.0 + scale}
        return {"model": str(folder), "metrics": metrics, "headline": "sim.psnr", **more}

    return make


@pytest.fixture
def python_in() -> Callable[..., str]:
    """Runs a program in a process of its own and gives what it prints."""

    def run(program: str, folder: Path, *flags: str, environment: dict[str, str]) -> str:
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1", **environment}
        done = subprocess.run(
            [sys.executable, *flags, "-c", program], cwd=folder, env=clean, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run
