"""The lens finder: shapes and coordinates of what it says, that it learns, and that a card rebuilds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from galaxy_models.augment import Augmentation
from galaxy_models.card import ModelCard
from galaxy_models.detection import Detections, LensFinder, ScoreHead, best_masks, pool, target_of
from galaxy_models.inputs import InputSpec
from galaxy_models.lens_objective import LensObjective
from galaxy_models.lvm import architecture, build_lvm, padding
from galaxy_models.metrics import auc
from galaxy_models.predictor import load_predictor, save_model
from galaxy_models.training import fit

INPUTS = InputSpec(("g", "r", "z"), 80, crop=64, binning=1, pixel_scale=(0.2, 0.3), unknown_pixel_scale=False)
STILL = Augmentation(rotation=0, shift=0, resize=0, mirror=0, brightness=0, colour=0, noise=0)


def finder() -> LensFinder:
    torch.manual_seed(0)
    return LensFinder(build_lvm("nano"), proposals=8, width=32)


def scenes(seed: int, count: int = 8) -> dict[str, torch.Tensor]:
    """The first half of the stamps have a bright blue bar somewhere, the others a red blob."""
    generator = np.random.default_rng(seed)
    stamps = generator.uniform(0, 0.05, (count, 3, 80, 80)).astype(np.float32)
    masks = np.zeros((count, 80, 80), dtype=bool)
    stamps[:, 0, 36:44, 36:44] = 0.8
    for i in range(count // 2):
        row, column = generator.integers(15, 50, 2)
        masks[i, row : row + 8, column : column + 16] = True
        stamps[i, 2, masks[i]] = 0.9
    return {
        "stamps": torch.from_numpy(stamps),
        "masks": torch.from_numpy(masks),
        "boxed": torch.ones(count, dtype=torch.bool),
        "lens": torch.arange(count) < count // 2,
    }


def objective(made: LensFinder) -> LensObjective:
    return LensObjective(made, INPUTS, "rgb", STILL, encoder_rate=1.0)


def train(folder: Path, steps: int, stop_after: int | None = None) -> LensFinder:
    made = finder()

    def batches(step: int):  # type: ignore[no-untyped-def]
        while True:
            if step == stop_after:
                raise OSError("killed")
            yield scenes(step)
            step += 1

    fit(
        objective(made),
        batches,
        steps=steps,
        folder=folder,
        checkpoint_steps=2,
        learning_rate=2e-3,
        weight_decay=0.01,
        seed=3,
        bf16=False,
    )
    return made


def test_columns_have_a_row_per_image_and_boxes_lie_in_the_stamp() -> None:
    columns = finder().predict_columns(torch.rand(3, 3, 64, 64), border=8)
    assert columns["lens_score"].shape == (3,) and columns["lens_score"].dtype == np.float32
    assert ((columns["lens_score"] >= 0) & (columns["lens_score"] <= 1)).all()
    assert columns["boxes"].shape == (3,) and columns["boxes"].dtype == object
    for boxes in columns["boxes"]:
        for x0, y0, x1, y1, score in boxes:
            assert 8 <= x0 < x1 <= 72 and 8 <= y0 < y1 <= 72 and 0 < score <= 1


def test_boxes_are_moved_from_the_crop_to_the_stamp() -> None:
    made = LensFinder(build_lvm("nano"), proposals=4, width=16, binning=2)
    arc = Detections(torch.tensor([[1.0, 2.0, 5.0, 9.0]]), torch.tensor([0.75]), torch.zeros(1, 16, 16))
    columns = made.columns(torch.zeros(1), [arc], border=28)
    assert columns["boxes"][0] == [[30.0, 32.0, 38.0, 46.0, 0.75]]
    assert columns["lens_score"][0] == 0.5


def test_an_image_of_any_legal_size_is_looked_at_as_if_it_had_come_with_its_border() -> None:
    made = finder().eval()
    made.regions.score_thresh = 0.0
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9), size=(72, 72))
    border = padding(72, 72)
    assert border == (12, 12, 12, 12)
    bordered = torch.nn.functional.pad(image, border, mode="replicate")
    with torch.inference_mode():
        (score, (arcs,)), (score_with, (with_border,)) = made(image), made(bordered)
    torch.testing.assert_close(score, score_with)
    expected = (with_border.boxes - 12).clamp(0, 72)
    expected = expected[(expected[:, 2:] > expected[:, :2]).all(dim=1)]
    assert len(expected)
    torch.testing.assert_close(arcs.boxes, expected)
    assert arcs.masks.shape[1:] == (72, 72)
    masks = torch.zeros(1, 72, 72, dtype=torch.bool)
    masks[:, 20:30, 40:60] = True
    known = torch.ones(1, dtype=torch.bool)
    assert all(torch.isfinite(term) for term in made.train().losses(image, masks, known, known.float()).values())


def test_images_without_detections_get_empty_boxes_and_masks() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 16, 16))
    made = LensFinder(build_lvm("nano"), proposals=4, width=16)
    assert made.columns(torch.zeros(1), [nothing])["boxes"][0] == []
    assert best_masks([nothing], (16, 16)).sum() == 0


def test_target_of_a_mask_is_its_half_open_box() -> None:
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[4:6, 10:17] = True
    assert target_of(mask)["boxes"].tolist() == [[10, 4, 17, 6]]
    assert len(target_of(torch.zeros(20, 30, dtype=torch.bool))["boxes"]) == 0


def test_real_lenses_without_boxes_teach_only_the_score() -> None:
    batch = scenes(0, 4)
    made = finder()
    rgb = INPUTS.to_network(batch["stamps"], "rgb")
    nothing = torch.zeros(4, dtype=torch.bool)
    assert set(made.losses(rgb, batch["masks"][:, 8:72, 8:72], nothing, batch["lens"])) == {"score"}
    terms = made.losses(rgb, batch["masks"][:, 8:72, 8:72], ~nothing, batch["lens"])
    assert set(terms) == {"score", "objectness", "rpn_box_reg", "classifier", "box_reg", "mask"}
    assert all(torch.isfinite(term) for term in terms.values())


def test_training_finds_bars_where_they_are(tmp_path: Path) -> None:
    made = train(tmp_path, 40).eval()
    batch = scenes(1000)
    logits, found = made(INPUTS.to_network(batch["stamps"], "rgb"))
    assert auc(batch["lens"].numpy(), logits.detach().numpy()) > 0.9
    truth = batch["masks"][:4, 8:72, 8:72]
    seen = best_masks(found[:4], (64, 64)) > 0.5
    overlap = (seen & truth).flatten(1).sum(1) / (seen | truth).flatten(1).sum(1)
    assert overlap.mean() > 0.3


def test_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 4)
    with pytest.raises(OSError):
        train(tmp_path / "killed", 4, stop_after=3)
    resumed = train(tmp_path / "killed", 4)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_score_head_solves_its_convex_problem_exactly() -> None:
    torch.manual_seed(1)
    lens = torch.arange(60) < 20
    features = torch.randn(60, 5) + lens[:, None] * torch.tensor([2.0, 0, 0, 0, 0])
    head = ScoreHead(5)
    head.fit(features, lens, penalty=0.1)
    assert auc(lens.numpy(), head(features).detach().numpy()) > 0.85
    # at the optimum the mean of the weighted residuals is zero: both classes weigh the same
    residual = torch.sigmoid(head(features).detach()) - lens.float()
    assert residual[lens].mean().item() == pytest.approx(-residual[~lens].mean().item(), abs=1e-3)
    # the units of a feature do not matter
    scaled = ScoreHead(5)
    scaled.fit(features * 1000 + 7, lens, penalty=0.1)
    torch.testing.assert_close(scaled(features * 1000 + 7), head(features), atol=2e-3, rtol=1e-3)


def test_pooling_sees_the_middle_apart() -> None:
    level = torch.zeros(1, 1, 12, 12)
    level[0, 0, 6, 6] = 36.0
    mean, strongest, spread, middle = pool([level])[0].tolist()
    assert (mean, strongest) == (0.25, 36.0) and spread > 0
    assert middle == pytest.approx(36.0 / 16)


def test_card_and_weights_rebuild_the_finder(tmp_path: Path) -> None:
    made = finder().eval()
    content = {"kind": "lens", "encoder": architecture(made.encoder), "proposals": 8, "width": 32}
    save_model(tmp_path, ModelCard("galaxy-lens-finder", content, INPUTS), made)
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, 80, 80)).astype(np.float32)
    columns = load_predictor(tmp_path).predict(images, "rgb", 0.25)
    expected = made.predict_columns(INPUTS.to_network(torch.from_numpy(images), "rgb"), border=8)
    np.testing.assert_array_equal(columns["lens_score"], expected["lens_score"])
    assert list(columns["boxes"]) == list(expected["boxes"])
    crop = np.ascontiguousarray(images[:, :, 8:-8, 8:-8])
    moved = load_predictor(tmp_path).predict(crop, "rgb", 0.25)["boxes"]
    for whole, part in zip(columns["boxes"], moved, strict=True):  # the same arcs, in pixels of what was given
        np.testing.assert_allclose(np.array(whole)[:, :4] - 8, np.array(part)[:, :4], atol=1e-3)
