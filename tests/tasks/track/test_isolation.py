"""A registered model answers by the code that it was logged with, whatever else is on the path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import galaxy_models
from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import architecture, build_lvm
from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.predictor import save_model
from galaxy_models.ring_structure import RING_COLUMNS
from tasks.track.client import connect
from tasks.track.registry import CHAMPION, load_registered, register

BOTH = """
import json, sys
sys.path.insert(0, {checkout!r})
import galaxy_models.predictor  # the checkout is imported first, and stays
import mlflow, numpy as np
images = np.full((2, 3, 32, 32), 0.5, dtype=np.float32)
params = {{"units": "rgb", "pixel_scale": 0.262}}
models = {{number: mlflow.pyfunc.load_model(f"models:/galaxy-lvm/{{number}}") for number in "12"}}
answers = [models[number].predict(images, params=params)["embedding"][0][1] for number in "121221"]
print(json.dumps(answers))
print(json.dumps(galaxy_models.__file__))
"""

ALONE = """
import importlib.util, json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/galaxy-lvm@champion")
images = np.random.default_rng(1).random((3, 3, 64, 64), dtype=np.float32)
table = model.predict(images, params={"units": "rgb", "pixel_scale": 0.262})
mine = ("galaxy_models", "tasks", "infra", "flows", "deployments", "prefect", "lightning", "zarr", "dask")
print(json.dumps({
    "columns": list(table.columns), "rows": len(table), "size": len(table["embedding"][0]),
    "first": table["embedding"][0][:4], "imported": [name for name in mine if name in sys.modules],
}))
"""


def test_versions_with_different_code_answer_side_by_side(settings, package_with, tiny_result, python_in, tmp_path):
    checkout = Path(galaxy_models.__file__).parent.parent
    for number, answer in enumerate((7.0, 8.0), start=1):
        package = package_with(answer)
        version = register(settings, "galaxy-lvm", tiny_result(), stage_key=f"key{number}", package=package)
        assert version == str(number)
    environment = {"MLFLOW_TRACKING_URI": settings.mlflow_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    printed = python_in(BOTH.format(checkout=str(checkout)), tmp_path, environment=environment).splitlines()
    assert json.loads(printed[0]) == [7, 8, 7, 8, 8, 7]
    assert json.loads(printed[1]) == galaxy_models.__file__
    # and through our own loader, in this process, which has the checkout's package imported
    found = {number: load_registered(settings, "galaxy-lvm", number).predict for number in "12"}
    images = np.zeros((1, 3, 32, 32), dtype=np.float32)
    assert [float(found[n](images, "rgb", 0)["embedding"][0, 1]) for n in "212"] == [8, 7, 8]


def test_real_model_answers_in_a_clean_process_without_the_checkout(settings, python_in, tmp_path):
    inputs = InputSpec(("g", "r", "z"), 64, 64, 2, (0.2, 0.3), unknown_pixel_scale=False)
    network = build_lvm("nano")
    save_model(tmp_path / "model", ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(network)}, inputs), network)
    register(settings, "galaxy-lvm", {"model": str(tmp_path / "model")}, stage_key="key")
    connect(settings).set_registered_model_alias("galaxy-lvm", CHAMPION, "1")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"MLFLOW_TRACKING_URI": settings.mlflow_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    answer = json.loads(python_in(ALONE, empty, "-I", environment=environment))
    assert answer["columns"] == ["embedding", *MEASURED_COLUMNS, *RING_COLUMNS]
    assert answer["rows"] == 3
    assert answer["imported"] == []
    images = np.random.default_rng(1).random((3, 3, 64, 64), dtype=np.float32)
    here = load_registered(settings, "galaxy-lvm", "1").predict(images, "rgb", 0.262)["embedding"]
    assert here.shape == (3, answer["size"])
    np.testing.assert_allclose(answer["first"], here[0, :4], rtol=1e-4, atol=1e-6)
