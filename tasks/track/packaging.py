"""A model folder becomes an MLflow model that carries its own code and needs no checkout.

Python keeps one module per name, so two versions that both bring a package `galaxy_models` would get
whichever was imported first, or the checkout's. The package is therefore logged under a name that holds
the hash of its content: equal code shares a name, other code has another.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infra.errors import GalaxyError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "timm", "torch", "torchvision")
MORE_REQUIREMENTS = {"align": ("open_clip_torch",)}
TEMPLATE = Path(__file__).with_name("pyfunc_model.py")
PLACEHOLDER = 'PACKAGE = "galaxy_models"'
_importing = threading.Lock()
ABSOLUTE_IMPORT = re.compile(r"^\s*(?:from|import)\s+galaxy_models\b", re.MULTILINE)


def package_folder() -> Path:
    """Folder of the package `galaxy_models` that this process would import."""
    import galaxy_models

    return Path(next(iter(galaxy_models.__path__)))


def package_hash(package: Path) -> str:
    """First 12 hex digits of the SHA-256 of the package's files, by relative name and content."""
    digest = hashlib.sha256()
    for path in _files(package):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def weights_digest(folder: Path) -> str:
    """SHA-256 (hex) of a model folder's weights file."""
    with (folder / "weights.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def requirements(kind: str) -> list[str]:
    """What a model of that architecture kind needs, as installed here; local version labels are left out."""
    names = sorted(REQUIREMENTS + MORE_REQUIREMENTS.get(kind, ()))
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def signature(columns: dict[str, np.ndarray]) -> ModelSignature:
    """The signature of a model that answers with `columns`.

    Parameters
    ----------
    columns
        An answer of the model, of any number of rows: its names and ranks make the output schema.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import Array

    def of(name: str, values: np.ndarray) -> ColSpec:
        if name == "boxes":
            return ColSpec(Array(Array(DataType.double)), name)
        return ColSpec(Array(DataType.double) if values.ndim == 2 else DataType.double, name)

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 3, -1, -1))]),
        outputs=Schema([of(name, values) for name, values in columns.items()]),
        params=ParamSchema(  # MLflow drops unknown parameters without a word: these defaults mean "not given"
            [ParamSpec("units", DataType.string, ""), ParamSpec("pixel_scale", DataType.double, -1.0)]
        ),
    )


@dataclass(frozen=True)
class StagedModel:
    """A model folder beside the copy of the package that it will be logged with."""

    folder: Path
    package_name: str
    kind: str
    columns: dict[str, np.ndarray]


def stage_model(folder: Path, model: Path, package: Path) -> StagedModel:
    """Copy model and package into `folder`, and ask the copy about one blank stamp.

    Raises
    ------
    GalaxyError
        If a file of the package imports `galaxy_models` by name (its copy would then run other code than its own),
        or the model cannot be loaded: what cannot answer is not registered.
    """
    name = f"galaxy_models_{package_hash(package)}"
    for path in _files(package):
        if path.suffix == ".py" and ABSOLUTE_IMPORT.search(path.read_text()):
            raise GalaxyError(f"{path} imports galaxy_models by name; inside the package imports must be relative")
        copy = folder / name / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    template = TEMPLATE.read_text()
    if PLACEHOLDER not in template:
        raise RuntimeError(f"{TEMPLATE} lacks the line {PLACEHOLDER}")
    (folder / "model.py").write_text(template.replace(PLACEHOLDER, f'PACKAGE = "{name}"'))
    shutil.copytree(model, folder / "model", ignore=shutil.ignore_patterns(".*"))
    with _importable(folder, name):
        try:
            predictor = import_module(f"{name}.predictor").load_predictor(folder / "model")
        except ValueError as error:  # CardError of the copy, which is not the CardError of this process
            raise GalaxyError(f"the model in {model} is not registered: {error}") from error
        inputs = predictor.card.inputs
        blank = np.zeros((1, 3, inputs.stamp_size, inputs.stamp_size), dtype=np.float32)
        columns = predictor.predict(blank, "rgb", 0.0 if inputs.unknown_pixel_scale else inputs.pixel_scale[0])
    return StagedModel(folder, name, str(predictor.card.architecture["kind"]), columns)


def write_pyfunc(target: Path, staged: StagedModel, model_id: str, run_id: str | None) -> None:
    """Write the MLflow model into the folder `target`, which must be empty or absent."""
    import mlflow.pyfunc
    from mlflow.models import Model

    before = set(sys.modules)
    try:
        with warnings.catch_warnings():
            # the signature is written by hand and the copy has answered; an example would be megabytes of JSON
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            mlflow.pyfunc.save_model(
                target,
                python_model=str(staged.folder / "model.py"),
                artifacts={"model": str(staged.folder / "model")},
                code_paths=[str(staged.folder / staged.package_name)],
                signature=signature(staged.columns),
                pip_requirements=requirements(staged.kind),
                mlflow_model=Model(model_id=model_id, run_id=run_id),
            )
    finally:
        for module in set(sys.modules) - before:
            if module.startswith("code_model_"):  # MLflow runs the file once to see that it works
                del sys.modules[module]


@contextmanager
def _importable(folder: Path, name: str) -> Iterator[None]:
    """Let `name` be imported from `folder`, and forget it afterwards if nobody had it before: the folder goes."""
    had = name in sys.modules
    with _importing:
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            if not had:
                for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                    del sys.modules[module]


def _files(package: Path) -> list[Path]:
    found = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(found, key=lambda path: path.relative_to(package).as_posix())
