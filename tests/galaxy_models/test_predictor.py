"""Networks that encode in bfloat16 give the same answers, to the digits that it has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from galaxy_models.align import GalaxAlign
from galaxy_models.card import ModelCard
from galaxy_models.image_towers import LvmTower
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.predictor import Predictor
from galaxy_models.search_model import SearchNetwork

INPUTS = InputSpec(("g", "r", "z"), 32, 32, 1, (0.2, 0.3), True)
SCHEMES = [HeadScheme("kind", "", "classes", ("round", "spiral")), HeadScheme("shape", "", "values", ("radius",))]


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    lvm = build_lvm("nano", tells_answers=True)
    search = SearchNetwork(lvm, told=True)
    search.weights.fill_(0.1)
    return {
        "lvm": lvm,
        "morphology": MultiTaskNetwork(lvm, SCHEMES),
        "align": GalaxAlign(LvmTower(lvm), 16, {"kind": ["spiral", "ring"]}),
        "search": search,
    }


@pytest.mark.parametrize("kind", list(networks()))
def test_in_bfloat16_the_answers_are_the_same_to_a_percent(kind: str) -> None:
    network = networks()[kind]
    predictor = Predictor(ModelCard.__new__(ModelCard), network)
    predictor.card.__dict__["inputs"] = INPUTS
    images = np.random.default_rng(0).random((3, 3, 32, 32), np.float32)
    before = predictor.predict(images, "rgb", 0.25)
    for part in network.modules():
        if isinstance(part, GalaxyLVM):
            part.encodes_in_bfloat16 = True
    after = predictor.predict(images, "rgb", 0.25)
    assert list(after) == list(before)
    for name in before:
        assert after[name].dtype == np.float32
        np.testing.assert_allclose(after[name], before[name], rtol=0.03, atol=0.01)
    assert any((after[name] != before[name]).any() for name in before), "something was computed otherwise"


def test_without_a_gpu_nothing_changes() -> None:
    network = build_lvm("nano")
    Predictor(ModelCard.__new__(ModelCard), network).hasten(bfloat16=True, compiled=True)
    assert not network.encodes_in_bfloat16
    assert all(part._compiled_call_impl is None for part in network.modules())
