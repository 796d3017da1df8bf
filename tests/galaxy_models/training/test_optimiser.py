"""Which part of the network learns how fast, and what is compiled where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from galaxy_models.checkpoint import CheckpointError
from galaxy_models.compilation import while_compiled, worth_compiling
from galaxy_models.lvm import build_lvm
from galaxy_models.swin import SwinBlocks, SwinStage
from galaxy_models.training import Objective, encoder_groups
from galaxy_models.upsample import DualUpsample
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


TIMM_STAGES = {
    "test_convnext": [("stem_0", "stem_1"), ("stages_0",), ("stages_1",), ("stages_2",), ("stages_3",)],
    "test_resnet": [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)],
    "test_efficientnet": [
        ("conv_stem", "bn1"), ("blocks.0", "blocks.1"), ("blocks.2",), ("blocks.3",), ("blocks.4",)
    ],
    "test_vit": [
        ("model.cls_token", "model.pos_embed", "model.patch_embed"),
        ("model.blocks.0",), ("model.blocks.1", "model.blocks.2"), ("model.blocks.3",),
        ("model.blocks.4", "model.blocks.5"),
    ],
}  # fmt: skip
"""Of models that timm keeps for tests, what comes before the first stage, and the stages; a ViT's are its quarters."""


LEVELS = ("resamples", "norms")
"""What our encoder makes of each map of a backbone."""


@pytest.mark.parametrize("name", TIMM_STAGES)
def test_the_stages_of_a_backbone_of_timm_are_those_of_its_maps(name: str) -> None:
    network = build_lvm(f"timm:{name}")
    groups = encoder_groups(network, 0.5, 0.5)
    assert [group["learning_rate_scale"] for group in groups] == [0.5 * 0.5**depth for depth in (4, 3, 2, 1, 0)]
    rates = {id(each): group["learning_rate_scale"] for group in groups for each in group["module"].parameters()}
    assert len(rates) == sum(len(list(group["module"].parameters())) for group in groups), "no parameter twice"
    got = {name: rates.pop(id(parameter)) for name, parameter in network.named_parameters()}
    expected = {name: 0.5 for name in got}
    for stage, parts in enumerate(TIMM_STAGES[name]):
        prefixes = [f"encoder.body.{part}." for part in parts] + [f"encoder.{part}.{stage - 1}." for part in LEVELS]
        mine = [each for each in got if f"{each}.".startswith(tuple(prefixes))]
        expected |= dict.fromkeys(mine, 0.5 ** (5 - stage))
    assert got == expected | {"encoder.mask_token": 0.5**5} and not rates, "decoder and all at the last stage's rate"


def test_where_timm_tells_no_stem_it_learns_as_the_first_stage() -> None:
    network = build_lvm("timm:poolformer_s12")
    slowest, first, *_ = [group["module"] for group in encoder_groups(network, 1.0, 0.5)]
    assert list(slowest.parameters()) == [network.encoder.mask_token]
    stem = list(network.get_submodule("encoder.body.stem").parameters())
    assert stem and {id(each) for each in stem} <= {id(each) for each in first.parameters()}


def test_to_ask_for_the_stages_draws_no_random_numbers() -> None:
    network = build_lvm("timm:test_vit")
    before = torch.get_rng_state()
    encoder_groups(network, 1.0, 0.5)
    assert torch.equal(torch.get_rng_state(), before)


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


def test_of_a_backbone_of_timm_the_whole_is_compiled() -> None:
    network = build_lvm("timm:test_resnet")
    parts = worth_compiling(network)
    assert parts[0] is network.encoder.body
    assert len(parts) > 1 and all(isinstance(part, (SwinBlocks, DualUpsample)) for part in parts[1:])
    assert len({id(each) for part in parts for each in part.modules()}) == sum(len(list(p.modules())) for p in parts)


def test_on_a_cpu_nothing_is_compiled(tmp_path: Path) -> None:
    objective = Stages()
    train(tmp_path, objective, compiled=True, steps=1, device="cpu")
    assert compiled(objective) == []


def test_the_swin_blocks_are_what_is_compiled_and_weights_keep_their_names() -> None:
    objective, names = Stages(), list(Stages().state_dict())
    with while_compiled(objective.compiled_parts()):
        assert compiled(objective) == [objective.stage.blocks] and list(objective.state_dict()) == names
    assert compiled(objective) == [], "what is done with it later may be done on a CPU"
