"""Versions go in once, answer by the contract, and refuse what the card does not allow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.errors import GalaxyError
from tasks.track.client import connect, process_wide
from tasks.track.packaging import package_folder, package_hash, requirements, signature
from tasks.track.registry import (
    CHALLENGER,
    CHAMPION,
    list_models,
    load_registered,
    model_uri,
    register,
    resolve,
)
from tasks.track.runs import stage_run

RGB = {"units": "rgb", "pixel_scale": 0.262}


@pytest.fixture
def loaded(settings, package_with, tiny_result):
    """A registered model as a user loads it, by name and alias."""
    import mlflow

    register(settings, "galaxy-lvm", tiny_result(), stage_key="key", package=package_with(7.0))
    with process_wide(settings):
        return mlflow.pyfunc.load_model(f"models:/galaxy-lvm@{CHALLENGER}")


def stamps(count: int, **other) -> np.ndarray:
    shape = (count, other.get("channels", 3), other.get("size", 48), other.get("size", 48))
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def test_registering_the_same_again_gives_the_same_version(settings, package_with, tiny_result):
    package = package_with(7.0)
    first = register(settings, "galaxy-lvm", tiny_result(), stage_key="a", package=package)
    assert register(settings, "galaxy-lvm", tiny_result(), stage_key="a", package=package) == first == "1"
    assert register(settings, "galaxy-lvm", tiny_result(2.0), stage_key="a", package=package) == "2"
    assert register(settings, "galaxy-lvm", tiny_result(2.0), stage_key="b", package=package) == "3"
    assert resolve(settings, "galaxy-lvm", CHALLENGER) == "3"
    assert resolve(settings, "galaxy-lvm", "2") == "2"
    assert len(connect(settings).search_model_versions("name='galaxy-lvm'")) == 3


def test_answer_is_a_table_row_for_row(loaded):
    images = stamps(3)
    table = loaded.predict(images, params=RGB)
    assert list(table.columns) == ["embedding"]
    assert [row[0] for row in table["embedding"]] == pytest.approx(
        images[:, :, 8:40, 8:40].mean(axis=(1, 2, 3)), rel=1e-5
    )
    arrays = loaded.unwrap_python_model().predictor.predict(images, "rgb", 0.262)["embedding"]
    assert arrays.shape == (3, 2)
    assert table["embedding"].tolist() == arrays.tolist()


def test_no_image_gives_no_row_but_all_columns(loaded):
    table = loaded.predict(stamps(0), params=RGB)
    assert (len(table), list(table.columns)) == (0, ["embedding"])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (None, "units is not given"),
        ({"pixel_scale": 0.262}, "units is not given"),
        ({"units": "rgb"}, "pixel_scale is not given; legal are 0.2 to 0.3"),
        ({"units": "jansky", "pixel_scale": 0.262}, "'jansky'; give units='nanomaggy'"),
        ({"units": "rgb", "pixel_scale": 1.0}, "legal are 0.2 to 0.3"),
        ({"units": "rgb", "pixelscale": 0.262}, "pixel_scale is not given"),
    ],
)
def test_wrong_parameters_are_refused_with_the_legal_ones(loaded, params, said):
    with pytest.raises(ValueError, match=said):
        loaded.predict(stamps(1), params=params)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (stamps(1, size=40), "legal squares are"),
        (stamps(1) * 3, "legal is 0 to 1"),
        (np.full((1, 3, 48, 48), np.nan, np.float32), "NaN"),
        (stamps(1).astype(np.float64), "float64"),
        (stamps(1, channels=2), r"\(-1, 3, -1, -1\)"),
    ],
)
def test_wrong_images_are_refused(loaded, images, said):
    with pytest.raises(Exception, match=said):
        loaded.predict(images, params=RGB)


def test_unknown_pixel_scale_is_zero_where_the_card_allows_it(loaded):
    assert len(loaded.predict(stamps(2), params={"units": "rgb", "pixel_scale": 0})) == 2


def test_model_has_weights_card_code_and_no_pickle(settings, package_with, tiny_result):
    package = package_with(7.0)
    register(settings, "galaxy-lvm", tiny_result(), stage_key="key", package=package)
    folder = Path(connect(settings).get_model_version_download_uri("galaxy-lvm", "1").removeprefix("file://"))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    code = f"code/galaxy_models_{package_hash(package)}"
    assert {"MLmodel", "requirements.txt", "model.py", f"{code}/lvm.py", f"{code}/predictor.py"} <= files
    assert {"artifacts/model/card.json", "artifacts/model/weights.safetensors"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".joblib", ".pyc"))]
    listed = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert {"mlflow", "torch", "torchvision", "timm", "safetensors", "numpy", "pandas"} <= listed
    assert all("+" not in line for line in requirements("align"))
    assert any(line.startswith("open_clip_torch==") for line in requirements("align"))


def test_version_is_linked_to_run_and_metrics(settings, survey, profile, package_with, tiny_result, tmp_path):
    result = tiny_result(3.0)
    with stage_run(settings, survey, profile, "pretrain", "key", tmp_path / "stage") as run:
        run.log_result(result)
    version = register(
        settings,
        "galaxy-lvm",
        result,
        stage_key="key",
        run_id=run.run_id,
        survey="tiny",
        dataset_digest="d" * 64,
        package=package_with(7.0),
    )
    client = connect(settings)
    found = client.get_model_version("galaxy-lvm", version)
    assert found.run_id == run.run_id
    model = client.get_logged_model(found.tags["galaxy.model_id"])
    assert model.source_run_id == run.run_id
    assert [(m.key, m.value) for m in model.metrics] == [("sim.psnr", 23.0)]
    assert len(client.get_metric_history(run.run_id, "sim.psnr")) == 1  # linked, not logged twice
    [summary] = list_models(settings)
    assert summary["aliases"] == [CHALLENGER]
    assert summary["headline"] == "sim.psnr 23.000"
    assert summary["uri"] == model_uri("galaxy-lvm", "1") == "models:/galaxy-lvm/1"
    assert model_uri("galaxy-lvm", CHAMPION) == "models:/galaxy-lvm@champion"
    assert json.dumps(summary)


def test_broken_model_is_not_registered(settings, package_with, tiny_result):
    result = tiny_result()
    card = Path(result["model"]) / "card.json"
    card.write_text(card.read_text().replace('"lvm"', '"oracle"'))
    with pytest.raises(GalaxyError, match="'oracle' is unknown"):
        register(settings, "galaxy-lvm", result, stage_key="key", package=package_with(7.0))
    (Path(result["model"]) / "weights.safetensors").unlink()
    with pytest.raises(GalaxyError, match="no weights"):
        register(settings, "galaxy-lvm", result, stage_key="key", package=package_with(7.0))
    assert list_models(settings) == []


def test_code_that_imports_its_package_by_name_is_refused(settings, package_with, tiny_result):
    package = package_with(7.0)
    (package / "lvm.py").write_text("from galaxy_models.card import ModelCard\n")
    with pytest.raises(GalaxyError, match="must be relative"):
        register(settings, "galaxy-lvm", tiny_result(), stage_key="key", package=package)


def test_hash_is_of_the_content(package_with):
    one, two = package_with(1.0), package_with(2.0)
    assert package_hash(one) != package_hash(two)
    (two / "lvm.py").write_bytes((one / "lvm.py").read_bytes())
    (two / "__pycache__").mkdir()
    (two / "__pycache__" / "lvm.pyc").write_bytes(b"x")
    assert package_hash(one) == package_hash(two)
    assert (package_folder() / "predictor.py").is_file()


def test_missing_model_names_the_stage_that_makes_it(settings):
    with pytest.raises(GalaxyError, match="stage `finetune`"):
        resolve(settings, "galaxy-morphology")
    with pytest.raises(GalaxyError, match="'7'"):
        load_registered(settings, "galaxy-lvm", "7")


def test_schema_of_the_columns():
    columns = {
        "embedding": np.zeros((1, 4), np.float32),
        "p_spiral": np.zeros(1, np.float32),
        "boxes": np.empty(1, dtype=object),
    }
    described = signature(columns).outputs.to_dict()
    assert [column["name"] for column in described] == ["embedding", "p_spiral", "boxes"]
    assert [column["type"] for column in described] == ["array", "double", "array"]
    assert described[2]["items"] == {"type": "array", "items": {"type": "double"}}


def test_a_survey_is_not_catalogued_by_another_surveys_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from tasks.track import registry

    champion = SimpleNamespace(version="3", tags={"galaxy.survey": "embedded"})
    monkeypatch.setattr(registry, "_version", lambda *_: champion)
    resolve = registry.resolve_for_survey
    assert resolve(None, "galaxy-lvm", "champion", "embedded", "5") == "3", "its own champion, not its newest"
    assert resolve(None, "galaxy-lvm", "champion", "real_sky", "5") == "5", "the version that its own run made"
    assert resolve(None, "galaxy-lvm", "champion", "real_sky", None) == "3", "nothing of its own: the champion there is"
