"""Two looks at a galaxy come together, those at others stay apart, and a collapse is seen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.training import fit
from galaxy_models.two_views import ProjectionHead, TwoViews, spread_of, view_loss, view_match

SIDE = 48
GALAXIES = 8
INPUTS = InputSpec(("g", "r", "z"), SIDE, 32, 1, (0.2, 0.3), True)
AUGMENTATION = Augmentation(shift=2)


def unit(count: int, seed: int = 0, size: int = 6) -> torch.Tensor:
    return functional.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def shapes() -> torch.Tensor:
    """Galaxies of two sizes, axis ratios and colours, (8, 3, 48, 48) in 0..1."""
    y, x = torch.meshgrid(*[torch.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij")
    images = []
    for number in range(GALAXIES):
        size, ratio = 2 + number % 2 * 2.5, 0.35 + number // 2 % 2 * 0.6
        tint = torch.tensor([0.9, 0.5, 0.3] if number // 4 else [0.4, 0.5, 0.8])
        image = torch.exp(-0.5 * ((x / size) ** 2 + (y / (size * ratio)) ** 2))
        images.append(0.08 + image * tint[:, None, None])
    return torch.stack(images)


def objective() -> TwoViews:
    torch.manual_seed(0)
    network = GalaxyLVM(LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (1, 2, 2, 2)))
    network.set_rgb_statistics(shapes().mean(dim=(0, 2, 3)), shapes().std(dim=(0, 2, 3)))
    return TwoViews(network, ProjectionHead(network, 64, 32), INPUTS, "rgb", augmentation=AUGMENTATION)


def separation(pretext: TwoViews) -> tuple[float, float]:
    """By how much the cosine of partners exceeds that of others, and the share of views that find their partner."""
    with torch.no_grad():
        views = [
            augmented_input(shapes(), "rgb", INPUTS, AUGMENTATION, torch.Generator().manual_seed(seed))
            for seed in (1, 2)
        ]
        vectors = pretext.head(pretext.network.encode(torch.cat(views)))
    likeness = vectors[:GALAXIES] @ vectors[GALAXIES:].T
    others = likeness[~torch.eye(GALAXIES, dtype=torch.bool)]
    galaxies = torch.arange(GALAXIES).repeat(2)
    return float(likeness.diagonal().mean() - others.mean()), float(view_match(vectors, galaxies))


def test_loss_of_four_views_by_hand() -> None:
    """Two galaxies on a plane, at temperature 1/2: every view has its partner at a right angle."""
    views = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    galaxies = torch.tensor([5, 9, 5, 9])
    # cosines to the other three: view 0: 1, 0, 0; view 1: 1, 0, 0; view 2: 0, 0, -1; view 3: 0, 0, -1; partner: 0
    first = math.log(math.exp(2) + 1 + 1)
    last = math.log(1 + 1 + math.exp(-2))
    assert float(view_loss(views, galaxies, 0.5)) == pytest.approx((2 * first + 2 * last) / 4, rel=1e-6)


def test_loss_is_the_cross_entropy_of_the_partner_among_all_others() -> None:
    vectors, galaxies = unit(10), torch.arange(5).repeat(2)
    logits = (vectors @ vectors.T / 0.2).fill_diagonal_(-math.inf)
    expected = functional.cross_entropy(logits, (torch.arange(10) + 5) % 10)
    assert float(view_loss(vectors, galaxies, 0.2)) == pytest.approx(float(expected), rel=1e-5)


def test_a_galaxy_that_is_twice_in_a_batch_is_not_pushed_from_itself() -> None:
    """Four views of galaxy 0 in one place and two of galaxy 1 opposite: nothing is to be gained by moving them."""
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).repeat(2, 1).requires_grad_()
    loss = view_loss(vectors, torch.tensor([0, 1, 0]).repeat(2), 0.1)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4 / 6 * math.log(3), rel=1e-5)
    assert vectors.grad is not None and float(vectors.grad[:, 1].abs().max()) < 1e-6


def test_collapse_is_seen_in_the_spread() -> None:
    assert float(spread_of(unit(1).expand(20, 6))) == pytest.approx(0, abs=1e-6)
    assert float(spread_of(unit(4000))) == pytest.approx(1, abs=0.01)
    around = functional.normalize(unit(1) + 0.02 * unit(20, seed=1), dim=1)
    assert float(spread_of(around)) < 0.05


def test_matches_are_counted() -> None:
    one, other = unit(2)
    galaxies = torch.tensor([0, 1, 0, 1])
    assert float(view_match(torch.stack([one, other, one, other]), galaxies)) == 1
    assert float(view_match(torch.stack([one, one, other, other]), galaxies)) == 0


def test_gradients_reach_every_map_of_the_encoder_and_leave_the_decoder() -> None:
    pretext = objective()
    batch = {"images": shapes(), "rows": torch.arange(GALAXIES)}
    loss, metrics = pretext.training_step_at(0, batch, torch.Generator().manual_seed(0))
    loss.backward()
    network = pretext.network
    for part in (network.encoder.shallow, *network.encoder.stages, *network.encoder.merges, pretext.head):
        reached = [p.grad for p in part.parameters() if p.grad is not None]
        assert reached and sum(float(gradient.abs().sum()) for gradient in reached) > 0
    assert all(p.grad is None for p in network.decoder_stages.parameters())
    assert set(metrics) == {"view_match", "view_spread"} and 0 < metrics["view_spread"] <= 1


def test_a_short_training_brings_views_of_a_galaxy_together_and_keeps_galaxies_apart(tmp_path: Path) -> None:
    pretext = objective()
    before, found_before = separation(pretext)
    images = shapes()

    def batches_from(step: int):  # type: ignore[no-untyped-def]
        while True:
            yield {"images": images, "rows": torch.arange(GALAXIES)}

    history = fit(
        pretext,
        batches_from,
        steps=60,
        folder=tmp_path,
        checkpoint_steps=60,
        learning_rate=3e-3,
        weight_decay=0.05,
        seed=0,
        device="cpu",
    )
    after, found_after = separation(pretext.cpu().eval())
    assert after > 3 * before and after > 0.8
    assert found_after > 0.85 > 0.6 > found_before
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["view_spread"] > 0.7, "they lie all around; nothing has collapsed"


def test_the_same_step_is_the_same_again() -> None:
    batch = {"images": shapes(), "rows": torch.arange(GALAXIES)}

    def loss(pretext: TwoViews) -> float:
        return float(pretext.training_step_at(0, batch, torch.Generator().manual_seed(4))[0].detach())

    first, second, changed = objective(), objective(), objective()
    changed.augmentation = replace(AUGMENTATION, noise=0.1)
    assert loss(first) == loss(second) != loss(changed)
