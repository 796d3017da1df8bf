"""Which part of the network learns how fast, and what is compiled where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from galaxy_models.checkpoint import CheckpointError
from galaxy_models.compilation import while_compiled
from galaxy_models.lvm import build_lvm
from galaxy_models.swin import SwinStage
from galaxy_models.training import Objective, encoder_groups
from tests.galaxy_models.training.regression import Regression, train


def test_each_stage_learns_at_a_part_of_the_next_ones_rate() -> None:
    network = build_lvm("nano")
    scales: dict[int, float] = {}
    for group in encoder_groups(network, 0.5, 0.5):
        for parameter in group["module"].parameters():
            assert id(parameter) not in scales, "no parameter twice"
            scales[id(parameter)] = group["learning_rate_scale"]
    assert len(scales) == len(list(network.parameters())), "none left out"

    def scale(part: nn.Module | nn.Parameter) -> float:
        parameters = [part] if isinstance(part, nn.Parameter) else part.parameters()
        (value,) = {scales[id(parameter)] for parameter in parameters}
        return value

    assert [scale(stage) for stage in network.encoder.stages] == [0.5 * 0.5**depth for depth in (3, 2, 1, 0)]
    stages = [scale(stage) for stage in network.encoder.stages]
    assert [scale(merge) for merge in network.encoder.merges] == stages[1:]
    assert scale(network.encoder.patch_embedding) == scale(network.encoder.mask_token) == 0.5**5
    assert scale(network.encoder.norm) == scale(network.decoder_stages) == scale(network.to_rgb) == 0.5


def test_without_decay_the_network_is_one_group_as_ever() -> None:
    network = build_lvm("nano")
    assert encoder_groups(network, 0.3) == [{"module": network, "learning_rate_scale": 0.3}]


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    train(tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    weights = {f"old.{name}": value for name, value in content["weights"].items()}
    torch.save(content | {"weights": weights}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is of another network; delete it") as refused:
        train(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_with_other_rates_is_refused(tmp_path: Path) -> None:
    class Slower(Regression):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"module": self, "learning_rate_scale": 0.5}]

    train(tmp_path)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save(content | {"step": 15}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"learning-rate scales of its groups \[1.0, 1.0\], now \[0.5, 0.5\]"):
        train(tmp_path, Slower())


class Stages(Regression):
    """With a Swin stage in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = SwinStage(8, 2, 2, 4, 2.0, [0.0, 0.0])


def compiled(objective: Objective) -> list[nn.Module]:
    return [part for part in objective.modules() if part._compiled_call_impl is not None]


def test_on_a_cpu_nothing_is_compiled(tmp_path: Path) -> None:
    objective = Stages()
    train(tmp_path, objective, compiled=True, steps=1, device="cpu")
    assert compiled(objective) == []


def test_the_swin_blocks_are_what_is_compiled_and_weights_keep_their_names() -> None:
    objective, names = Stages(), list(Stages().state_dict())
    with while_compiled(objective.compiled_parts()):
        assert compiled(objective) == [objective.stage.blocks] and list(objective.state_dict()) == names
    assert compiled(objective) == [], "what is done with it later may be done on a CPU"
