"""Every stamp is answered or refused with the reason, and a version is scored through its own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.predictor import Predictor
from infra.errors import GalaxyError
from tasks.track.answers import answer, answer_rows
from tasks.track.registry import register
from tasks.track.scores import asker, score


class Mean(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def predict_columns(self, rgb: torch.Tensor, border: int, flux: torch.Tensor | None) -> dict[str, np.ndarray]:
        mean = rgb.mean(dim=(1, 2, 3)).numpy()
        boxes = np.empty(len(mean), dtype=object)
        boxes[:] = [[[0.0, 0.0, 1.0, 1.0, float(value)]] for value in mean]
        return {"mean": mean, "vector": np.stack([mean, mean], axis=1), "boxes": boxes}


@pytest.fixture
def predictor() -> Predictor:
    inputs = InputSpec(("g", "r", "z"), 32, 32, 1, (0.2, 0.3), unknown_pixel_scale=True)
    return Predictor(ModelCard("mean", {"kind": "lvm"}, inputs), Mean(), batch_size=3)


BANDS = ("g", "r", "z")


class Stamps:
    """Ten stamps of rising brightness, object ids in falling order."""

    units, bands, stamp_size, root = "rgb", ("R", "G", "B"), 48, Path("stamps")

    def __init__(self) -> None:
        self.images = np.full((10, 3, 48, 48), 20, np.uint8) * np.arange(1, 11, dtype=np.uint8)[:, None, None, None]
        self.catalog = pd.DataFrame({"object_id": [f"g{9 - i}" for i in range(10)], "pixel_scale": np.nan})

    def __len__(self) -> int:
        return 10

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


def test_illegal_scale_and_broken_pixels_are_refused_row_by_row(predictor):
    images = np.linspace(0.1, 0.9, 6, dtype=np.float16)[:, None, None, None] * np.ones((1, 3, 32, 32), np.float16)
    images[4, 0, 0, 0] = np.nan
    answers = answer(predictor, images, "nanomaggy", BANDS, np.array([0.25, np.nan, 0.9, 0.25, 0.25, 0.2]))
    assert set(answers.refused) == {2, 4}
    assert "legal are 0.2 to 0.3" in answers.refused[2]
    assert "not finite" in answers.refused[4]
    kept = [0, 1, 3, 5]
    assert np.isnan(answers.columns["mean"][[2, 4]]).all() and np.isfinite(answers.columns["mean"][kept]).all()
    assert answers.columns["vector"].shape == (6, 2)
    assert answers.columns["boxes"][2] is None and len(answers.columns["boxes"][5]) == 1


def test_all_refused_gives_no_columns(predictor):
    answers = answer(predictor, np.zeros((2, 3, 32, 32), np.uint8), "rgb", ("R", "G", "B"), np.array([5.0, 5.0]))
    assert answers.columns == {} and set(answers.refused) == {0, 1}


def test_rows_are_answered_in_the_order_asked(predictor):
    stamps = Stamps()
    stamps.images = stamps.images[:, :, :32, :32]
    rows = np.array([7, 2, 9, 0])
    answers = answer_rows(predictor, stamps, rows, block=3)
    np.testing.assert_allclose(answers.columns["mean"], 20 * (rows + 1) / 255, rtol=1e-5)


def test_registered_version_is_asked_by_object(settings, package_with, tiny_result):
    """The tiny model's embedding points along its answer, so that bright and faint are each other's neighbours."""
    register(settings, "galaxy-lvm", tiny_result(), stage_key="key", package=package_with(0.1))
    ask = asker(settings, "galaxy-lvm", Stamps())
    table = pd.DataFrame({"object_id": [f"g{i}" for i in range(10)]})
    table["label"] = ["bright"] * 5 + ["faint"] * 5
    table["role"] = ["query", "gallery", "gallery", "gallery", "gallery"] * 2
    scored = ask("1", table, "sim.knn_precision")
    assert scored["score"].notna().tolist() == (table["role"] == "query").tolist()
    assert scored["score"][0] == 0.5  # all eight others are its neighbours, half of them of its label
    with pytest.raises(GalaxyError, match="'elsewhere'"):
        ask("1", pd.DataFrame({"object_id": ["elsewhere"], "label": ["x"]}), "sim.knn_precision")
    with pytest.raises(GalaxyError, match="does not know"):
        ask("1", table, "sim.accuracy")
    narrow = Stamps()
    narrow.catalog["pixel_scale"] = 3.0
    with pytest.raises(GalaxyError, match="refuses 10 stamps"):
        asker(settings, "galaxy-lvm", narrow)("1", table, "sim.knn_precision")


def test_fluxes_in_other_bands_are_refused_with_both_named(predictor):
    answers = answer(predictor, np.ones((2, 3, 32, 32), np.float16), "nanomaggy", ("g", "r", "i"), np.full(2, 0.25))
    assert not answers.columns
    assert set(answers.refused) == {0, 1}
    assert "g-r-i" in answers.refused[0] and "g-r-z" in answers.refused[0]


def test_a_class_that_no_stamp_has_counts_for_champion_and_challenger_alike() -> None:
    labels = pd.Categorical(["a", "b"], categories=["a", "b", "c"])
    columns = {"p_a": np.array([0.3, 0.1]), "p_b": np.array([0.2, 0.6]), "p_c": np.array([0.5, 0.3])}
    assert score(columns, pd.DataFrame({"label": labels}), "class.accuracy").tolist() == [0.0, 1.0]
