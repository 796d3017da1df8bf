"""timm's backbones in the encoder's place: the same pyramid, the same promises, and names that are refused."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

from galaxy_models.augment import Augmentation
from galaxy_models.card import CardError, ModelCard
from galaxy_models.detection import LensFinder
from galaxy_models.image_towers import LvmTower, build_image_tower
from galaxy_models.inputs import InputError, InputSpec
from galaxy_models.lvm import GalaxyLVM, TimmConfiguration, architecture, build_lvm, from_architecture, looks
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork, describe
from galaxy_models.predictor import load_network, save_model
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.timm_encoder import Backbone, BackboneError, TimmEncoder, find_backbone
from galaxy_models.training import fit

NAMES = ("test_convnext", "test_resnet", "test_vit")
"""Hierarchical with irregular channels, hierarchical with batch norm, plain: tiny models that timm keeps for tests."""

INPUTS = InputSpec(("g", "r", "z"), 64, 64, 1, (0.2, 0.3), True)


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest) -> GalaxyLVM:
    torch.manual_seed(1)
    return build_lvm(f"timm:{request.param}").eval()


def picture(size: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("size, padded", [(64, 64), (152, 160), (40, 64)])
@torch.no_grad()
def test_pyramid_has_strides_4_to_32_and_the_output_the_input_size(network: GalaxyLVM, size: int, padded: int) -> None:
    maps = network.encode(picture(size))
    wanted = [(1, c, padded // s, padded // s) for c, s in zip(network.channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(features.shape) for features in maps] == wanted
    assert network(picture(size)).shape == (1, 3, size, size)
    embedding = network.embed(picture(size))
    assert embedding.shape == (1, network.embedding_size) == (1, sum(network.channels[1:3]))
    levels = [network.encode(look)[1] for look in looks(picture(size))]
    spreads = torch.stack([level.flatten(2).std(dim=2, correction=0) for level in levels])
    torch.testing.assert_close(embedding[:, : network.channels[1]], spreads.mean(dim=0))


def test_channels_are_the_backbones_own_and_a_vits_are_halved_with_every_doubling() -> None:
    assert build_lvm("timm:test_convnext").channels == (24, 32, 48, 64)
    assert build_lvm("timm:test_vit").channels == (16, 32, 64, 64)
    assert find_backbone("test_vit").indices == (0, 2, 3, 5), "a map after each quarter of six blocks"


@torch.no_grad()
def test_a_map_with_its_channels_last_is_turned() -> None:
    encoder = TimmEncoder("test_mambaout").eval()
    assert encoder.body.output_fmt == "NHWC"
    assert [features.shape[-1] for features in encoder(picture(64), None)] == list(encoder.channels)


@pytest.mark.parametrize("name", NAMES)
def test_multiples_of_8_up_to_512_are_taken_and_others_refused(name: str) -> None:
    with torch.device("meta"):
        network = build_lvm(f"timm:{name}").eval()
        for size in (32, 40, 72, 128, 152, 160, 224, 256, 512):
            assert network(torch.empty(1, 3, size, size)).shape == (1, 3, size, size)
    with pytest.raises(InputError, match="nearest to 100 are 96 and 104"):
        network(torch.empty(1, 3, 100, 64, device="meta"))


@torch.no_grad()
def test_used_at_other_sizes_before_it_answers_like_a_new_network(network: GalaxyLVM) -> None:
    fresh = from_architecture(architecture(network)).eval()
    fresh.load_state_dict(network.state_dict())
    for other in (160, 64, 152):
        network(picture(other))
    assert torch.equal(network(picture(96)), fresh(picture(96)))


@torch.no_grad()
def test_a_vit_answers_as_one_that_timm_built_for_the_size() -> None:
    """Its position embeddings are interpolated to the map, as timm does when weights move to another size."""
    ours = find_backbone("test_vit").build().eval()
    theirs = timm.create_model("test_vit", img_size=96, features_only=True, out_indices=(0, 2, 3, 5)).eval()
    weights = ours.state_dict()
    whole = theirs.model
    weights["model.pos_embed"] = resample_abs_pos_embed(
        weights["model.pos_embed"], list(whole.patch_embed.grid_size), num_prefix_tokens=whole.num_prefix_tokens
    )
    theirs.load_state_dict(weights)
    for mine, other in zip(ours(picture(96)), theirs(picture(96)), strict=True):
        torch.testing.assert_close(mine, other)


@torch.no_grad()
def test_timms_swin_makes_its_masks_for_each_size() -> None:
    """With windows that no size changes, it answers as one that timm built for the size."""
    small = {"embed_dim": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 1, 2, 2), "always_partition": True}
    found = find_backbone("swin_tiny_patch4_window7_224")
    assert found.options == {"dynamic_img_size": True}
    name, places = found.name, (0, 1, 2, 3)
    ours = Backbone(name, places, found.strides, (8, 16, 32, 64), {**found.options, **small}).build().eval()
    theirs = timm.create_model(name, features_only=True, out_indices=places, img_size=96, **small).eval()
    theirs.load_state_dict(ours.state_dict())
    for mine, other in zip(ours(picture(96)), theirs(picture(96)), strict=True):
        torch.testing.assert_close(mine, other)


def test_hidden_pixels_do_not_change_the_answer_and_their_colour_is_learnt(network: GalaxyLVM) -> None:
    image = picture(64)
    hidden = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hidden[:, :, 16:32, 8:24] = True
    other = torch.where(hidden, picture(64).flip(-1), image)
    with torch.no_grad():
        assert torch.equal(network(image, hidden), network(other, hidden))
        assert not torch.equal(network(image), network(other))
        before = network(image, hidden)
        network.encoder.mask_token += 1.0
        assert not torch.equal(network(image, hidden), before)
    network(image, hidden).square().mean().backward()
    assert network.encoder.mask_token.grad is not None and network.encoder.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_pretraining_reaches_every_weight_and_goes_on_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    def trained(steps_at_once: tuple[int, ...], folder: Path) -> GalaxyLVM:
        for last in steps_at_once:
            torch.manual_seed(0)
            network = build_lvm(f"timm:{name}")
            still = {key: value.clone() for key, value in network.named_parameters()}
            objective = MaskedReconstruction(
                network, INPUTS, "rgb", mask_patch=8, mask_fraction=0.5, augmentation=Augmentation()
            )
            _fit_until(objective, last, folder)
        moved = {key for key, value in network.named_parameters() if not torch.equal(value, still[key])}
        assert moved == set(still), "every parameter of encoder and decoder learns"
        return network

    whole = trained((4,), tmp_path / "whole")
    resumed = trained((2, 4), tmp_path / "resumed")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


class Interruption(Exception):  # noqa: N818 - no error, but the end of a test's first half
    pass


def _fit_until(objective: MaskedReconstruction, last: int, folder: Path) -> None:
    def batches_from(start: int) -> Iterator[dict[str, torch.Tensor]]:
        for step in range(start, last):
            images = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(step))
            yield {"images": images.to(torch.uint8), "rows": torch.arange(4)}
        raise Interruption

    with contextlib.suppress(Interruption):
        fit(
            objective,
            batches_from,
            steps=4,
            folder=folder,
            checkpoint_steps=2,
            learning_rate=1e-3,
            weight_decay=0.05,
            seed=0,
        )


FRESH = """
import socket, sys
from pathlib import Path
import numpy as np

def refuse(*arguments):
    raise AssertionError(f"asked the network for {arguments}")

socket.socket.connect = socket.getaddrinfo = refuse
from galaxy_models.predictor import load_predictor

images = np.load("images.npy")
for name in sys.argv[1:]:
    np.save(f"{name}.npy", load_predictor(Path(name)).predict(images, "rgb", 0.25)["embedding"])
"""


def test_saved_models_answer_the_same_in_a_new_process_without_any_network(tmp_path: Path) -> None:
    images = picture(64, count=2).numpy()
    np.save(tmp_path / "images.npy", images)
    expected = {}
    for name in NAMES:
        network = build_lvm(f"timm:{name}").eval()
        content = json.loads(json.dumps({"kind": "lvm", **architecture(network)}))
        save_model(tmp_path / name, ModelCard("galaxy-lvm", content, INPUTS), network)
        expected[name] = network.predict_columns(torch.from_numpy(images))["embedding"]
    process = subprocess.run(
        [sys.executable, "-c", FRESH, *NAMES],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    for name in NAMES:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected[name], rtol=1e-4, atol=1e-5)


def test_heads_detector_and_image_tower_stand_on_it(network: GalaxyLVM, tmp_path: Path) -> None:
    image = picture(64, count=2)
    heads = MultiTaskNetwork(network, [HeadScheme("shapes", "s", "classes", ("round", "flat"))]).eval()
    content, labels = describe(heads)
    save_model(tmp_path / "heads", ModelCard("galaxy-morphology", content, INPUTS, labels=labels), heads)
    _, loaded = load_network(tmp_path / "heads")
    answer = loaded.eval().predict_columns(image)
    assert (answer["p_round"] == heads.predict_columns(image)["p_round"]).all()

    finder = LensFinder(network, proposals=4, width=16)
    mask = torch.zeros(2, 64, 64, dtype=torch.bool)
    mask[0, 10:30, 10:20] = True
    terms = finder.losses(image, mask, torch.tensor([True, True]), torch.tensor([1.0, 0.0]))
    assert all(torch.isfinite(term) for term in terms.values())
    content = {"kind": "lens", "encoder": architecture(network), "proposals": 4, "width": 16}
    save_model(tmp_path / "lens", ModelCard("galaxy-lens-finder", content, INPUTS), finder)
    _, loaded = load_network(tmp_path / "lens")
    assert (loaded.predict_columns(image)["lens_score"] == finder.predict_columns(image)["lens_score"]).all()

    tower = LvmTower(network).eval()
    learning = {name.split(".")[1] for name, value in tower.lvm.named_parameters() if value.requires_grad}
    assert learning == {"body", "norms"} | ({"resamples"} if tower.lvm.preset == "timm:test_vit" else set())
    other = build_image_tower(json.loads(json.dumps(tower.describe()))).eval()
    other.load_state_dict(tower.state_dict())
    assert torch.equal(other(image), tower(image)) and tower(image).shape == (2, tower.features)


@pytest.mark.parametrize(
    "name, words",
    [
        ("convnext_nanno", r"no model 'convnext_nanno'; near it are convnext_nano, .*; some that serve: convnext_nano"),
        ("qqqq", r"no model 'qqqq'; nothing is near it; some that serve: "),
        ("hf-hub:timm/resnet18.a1_in1k", r"no model 'hf-hub:timm/resnet18.a1_in1k'"),
        ("resnet18.a1_in1k", r"names weights.*none are downloaded.*write 'timm:resnet18'"),
        ("levit_128s", r"'levit_128s' cannot be the encoder: its feature maps have strides \[16, 32, 64\]"),
        ("vit_small_patch14_dinov2", r"strides \[14, 14.*near it are .*vit_small_patch"),
        ("test_maxvit", r"'test_maxvit' cannot be the encoder: it does not take images of any size \(.*window"),
    ],
)
def test_names_that_cannot_be_the_encoder_are_refused_with_what_comes_near(name: str, words: str) -> None:
    with pytest.raises(BackboneError, match=words):
        build_lvm(f"timm:{name}")


def test_a_card_whose_backbone_this_timm_lacks_cannot_be_rebuilt() -> None:
    content = {**architecture(build_lvm("timm:test_resnet")), "backbone": "resnet_of_tomorrow"}
    with pytest.raises(CardError, match=r"timm that is installed: timm has no model 'resnet_of_tomorrow'"):
        from_architecture(content)


def test_looking_at_a_backbone_draws_no_random_numbers() -> None:
    """Else the first network of a process would have other weights than the second."""
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        find_backbone.cache_clear()
        find_backbone("test_resnet")
        states.append(torch.get_rng_state())
        torch.manual_seed(3)
        states.append(torch.get_rng_state())
    assert all(torch.equal(state, states[0]) for state in states)
    assert TimmConfiguration("test_resnet").encoder().channels == find_backbone("test_resnet").channels
