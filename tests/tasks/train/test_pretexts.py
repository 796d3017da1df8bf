"""The pretexts that a profile chooses."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import build_lvm
from galaxy_models.simulated_answers import SimulatedPictures
from galaxy_models.volunteer_answers import PLACES
from infra.profile import Pretext, PretrainSettings
from tasks.train.pretexts import pretext_objective, tells_answers

INPUTS = InputSpec(("R", "G", "B"), 40, 32, 1, (0.0, 1.0), True)
CHOICES: list[dict[Pretext, float]] = [
    {"masked": 1.0},
    {"views": 1.0},
    {"measures": 2.0},
    {"answers": 1.0},
    {"masked": 1.0, "views": 0.2, "measures": 1.0, "answers": 1.0},
]


@pytest.mark.parametrize("pretexts", CHOICES, ids="+".join)
def test_every_parameter_that_is_trained_gets_a_gradient(pretexts: dict[Pretext, float]) -> None:
    """Several processes wait for all of them."""
    generator = torch.Generator().manual_seed(0)
    stamps = torch.randint(0, 256, (6, 3, 40, 40), generator=generator, dtype=torch.uint8)
    settings = PretrainSettings(pretexts=pretexts, crop=32, binning=1)
    sample = INPUTS.to_network(stamps, "rgb")
    pictures = SimulatedPictures(stamps, torch.rand((6, len(PLACES)), generator=generator))
    network = build_lvm("nano", tells_answers(settings))
    objective = pretext_objective(network, INPUTS, "rgb", settings, None, sample, pictures)
    loss, metrics = objective.training_step_at(0, {"images": stamps, "rows": torch.arange(6)}, generator)
    loss.backward()
    trained = {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    decodes = any(name.startswith("network.decoder_stages") for name in trained)
    assert decodes == ("masked" in pretexts)
    assert ("measures_explained" in metrics) == ("measures" in pretexts)
    assert ("answers_explained" in metrics) == ("answers" in pretexts)


def test_heads_are_drawn_from_the_seed_alone() -> None:
    stamps = torch.full((4, 3, 32, 32), 0.1)
    heads = []
    for seed in (0, 0, 1):
        settings = PretrainSettings(pretexts={"measures": 1.0}, crop=32, binning=1, seed=seed)
        objective = pretext_objective(build_lvm("nano"), INPUTS, "rgb", settings, None, stamps)
        heads.append(objective.state_dict()["head.last.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
