"""Fine-tuning on fluxes restores fluxes, and tells parameters from photometry beside the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from galaxy_models.predictor import load_predictor
from tasks.ingest.ingest import ingest
from tasks.ingest.survey import load_survey
from tasks.stamps.dataset import StampDataset
from tasks.train import finetune as stage
from tasks.train import finetune_network
from tests.doubles.brick_survey import Sky
from tests.doubles.brick_tree import make_brick_tree
from tests.doubles.labelled_ellipses import FakePrepared, context_of, prepared_of


@pytest.mark.parametrize("stop_at", [3, 7])
def test_with_photometry_a_killed_run_ends_the_same(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Before the first checkpoint and after it: what is learnt before the training is learnt again."""
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: prepared_of("nanomaggy"))
    options: dict[str, Any] = {"max_steps": 12, "evaluate_steps": 5, "checkpoint_steps": 5}

    def stop(done: int, total: int, note: str = "") -> None:
        if total == 12 and done == stop_at:
            raise KeyboardInterrupt

    whole = stage.finetune(context_of(tmp_path / "whole", pretrained, "nanomaggy", **options))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stage.finetune(context_of(tmp_path / "cut", pretrained, "nanomaggy", progress=stop, **options))
    torch.set_num_threads(2)  # as after a start that skipped what is done before
    again = stage.finetune(context_of(tmp_path / "cut", pretrained, "nanomaggy", **options))
    assert again["weights_digest"] == whole["weights_digest"] and again["metrics"] == whole["metrics"]


def test_fluxes_are_degraded_as_fluxes(tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = prepared_of("nanomaggy")
    fake.table["psf_size_g"] = 1.3
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: fake)
    context = context_of(tmp_path, pretrained, "nanomaggy", max_steps=3, evaluate_steps=3)
    result = stage.finetune(context)
    assert result["parameters"]["restoration_space"] == "flux"
    assert result["metrics"]["near.restoration.psnr_gain_db"] > 1, "the blur is known, and undone"
    predictor = load_predictor(Path(result["model"]))
    fluxes = fake.dataset.images[:2].astype(np.float32)
    restored = predictor.restore(fluxes, "nanomaggy", 0.262, seeing=[1.6, 1.5, 1.4], noise=[0.006, 0.006, 0.006])
    assert restored.shape == (2, 3, 32, 32)
    assert (restored.max(axis=(2, 3)) > fluxes[..., 4:-4, 4:-4].max(axis=(2, 3))).mean() > 0.5, "cores are sharper"


def test_parameters_of_fluxes_are_known_from_photometry_before_the_network_has_learnt_anything(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, coverage = {}, {}
    for units in ("nanomaggy", "rgb"):
        monkeypatch.setattr(finetune_network, "open_prepared", lambda context, units=units: prepared_of(units))
        context = context_of(tmp_path / units, pretrained, units, max_steps=2, evaluate_steps=2, learning_rate=1e-5)
        metrics = stage.finetune(context)["metrics"]
        errors[units] = metrics["size.axis_ratio.rmse"] / metrics["size.axis_ratio.rmse_of_mean"]
        if units == "nanomaggy":
            errors["of pictures"] = (
                metrics["size.of_pictures.axis_ratio.rmse"] / metrics["size.of_pictures.axis_ratio.rmse_of_mean"]
            )
            coverage = {of: metrics[f"size{of}.axis_ratio.coverage"] for of in ("", ".of_pictures")}
    assert errors["nanomaggy"] < 0.4 < 0.9 < min(errors["rgb"], errors["of pictures"])
    assert all(0.4 < share < 0.95 for share in coverage.values()), "each answer's sigmas have a scale of their own"


def test_tractors_shapes_are_learnt_from_bricks_that_have_no_other_label(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = Sky(make_brick_tree(tmp_path / "tree", side=500, step=0.03, galaxies_per_brick=60, seed=3), tmp_path)
    sky.source |= {"tractor": "tractor/{tile:.3}/tractor-{tile}.fits"}
    with monkeypatch.context() as patch:
        patch.setenv("GALAXY_BRICKS", "unused")
        patch.setenv("GALAXY_CATALOGUE", "unused")
        label = load_survey("bricks").labels[0]
    sky.survey["labels"] = [label.model_dump() | {"source": "sky"}]
    dataset = StampDataset.open(ingest(sky.context("ingest"))["dataset"])
    table = dataset.catalog.reset_index(drop=True)
    table["split"] = np.resize(["train", "train", "train", "validation", "test"], len(table))
    table["usable"] = table["state"] == "valid"
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: FakePrepared(dataset, table))
    context = context_of(tmp_path / "finetune", pretrained, "nanomaggy", max_steps=4, evaluate_steps=4)
    object.__setattr__(context, "survey", sky.definition())
    result = stage.finetune(context)
    metrics = result["metrics"]
    assert result["headline"] == "shape.scaled_error" and metrics["shape.scaled_error"] < 0.8
    for name in ("half_light_radius", "axis_ratio", "e1", "e2"):
        assert metrics[f"shape.{name}.rmse"] < 0.9 * metrics[f"shape.{name}.rmse_of_mean"]
