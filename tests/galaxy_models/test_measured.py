"""The measuring pretext learns to see shapes, whatever the augmentation does to the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.measured import LIMIT, Measurement, MeasurementHead, explained
from galaxy_models.morphometry import MEASURES
from galaxy_models.training import fit

from .test_morphometry import galaxy

INPUTS = InputSpec(("R", "G", "B"), 64, 64, 2, (0.0, 1.0), True)  # 32 px, so that it is quick


@pytest.fixture(scope="module")
def stamps() -> torch.Tensor:
    """(48, 3, 64, 64) of many shapes, with a little noise."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(48, 4, generator=generator).tolist()
    drawn = torch.cat([galaxy(0.3 + 0.7 * q, 180 * turn, 4 + 5 * size, arms=arms) for q, turn, size, arms in draws])
    return (drawn + 0.01 * torch.randn(drawn.shape, generator=generator)).clamp(0, 1)


def pretext(stamps: torch.Tensor) -> Measurement:
    torch.manual_seed(0)
    network = build_lvm("nano")
    network.set_rgb_statistics(stamps.mean(dim=(0, 2, 3)), stamps.std(dim=(0, 2, 3)))
    head = MeasurementHead(network)
    head.set_statistics(INPUTS.to_network(stamps, "rgb"))
    return Measurement(network, head, INPUTS, "rgb", augmentation=Augmentation(shift=2.0))


def test_targets_are_standardised_and_bounded(stamps: torch.Tensor) -> None:
    targets = pretext(stamps).head.targets(INPUTS.to_network(stamps, "rgb"))
    assert targets.shape == (48, len(MEASURES))
    assert targets.abs().max() <= LIMIT
    varying = targets[:, targets.std(dim=0) > 0.1]
    assert varying.shape[1] > 20
    assert varying.median(dim=0).values.abs().max() < 0.2
    assert 0.5 < varying.std(dim=0).median() < 1.1


def test_a_short_training_tells_the_axis_ratio_of_views_it_never_saw(stamps: torch.Tensor, tmp_path: Path) -> None:
    objective = pretext(stamps)

    def batches_from(step: int):
        generator = torch.Generator().manual_seed(1)
        for number in range(1000):
            rows = torch.randint(48, (32,), generator=generator)
            if number >= step:
                yield {"images": stamps[rows], "rows": rows}

    def correlation(network: GalaxyLVM) -> float:
        generator = torch.Generator().manual_seed(7)
        others = torch.cat([galaxy(q, 50 * turn) for q in (0.35, 0.5, 0.65, 0.8, 0.95) for turn in (0, 1, 2)])
        others = others + 0.01 * torch.randn(others.shape, generator=generator)
        with torch.inference_mode():
            told = objective.head(network.encode(INPUTS.to_network(others.clamp(0, 1), "rgb")))[
                :, MEASURES.index("axis_ratio")
            ]
        truth = torch.tensor([0.35, 0.5, 0.65, 0.8, 0.95]).repeat_interleave(3)
        return float(torch.corrcoef(torch.stack([told, truth]))[0, 1])

    history = fit(
        objective, batches_from, steps=200, folder=tmp_path, checkpoint_steps=200, learning_rate=2e-3, weight_decay=0.0,
        seed=0, device="cpu",
    )  # fmt: skip
    assert history[-1]["measures_explained"] > history[0]["measures_explained"]
    assert correlation(objective.network.eval()) > 0.8


def test_gradients_reach_the_encoder_and_leave_the_decoder(stamps: torch.Tensor) -> None:
    objective = pretext(stamps)
    batch = {"images": stamps[:4], "rows": torch.arange(4)}
    loss, _ = objective.training_step_at(0, batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None for p in objective.network.encoder.stages.parameters())
    assert all(p.grad is None for p in objective.network.decoder_stages.parameters())


def test_explained_share_by_hand() -> None:
    wanted = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    assert float(explained(wanted, wanted)) == pytest.approx(1.0)
    assert float(explained(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), wanted)) == pytest.approx(0.0)
    assert explained(wanted[:1], wanted[:1]).isnan(), "nothing varies in a batch of one"
