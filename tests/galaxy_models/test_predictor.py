"""Restored images, and what is refused; networks that encode in bfloat16 give the same answers, to its digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from galaxy_models.align import GalaxAlign
from galaxy_models.card import ModelCard
from galaxy_models.degradation import FWHM_PER_SIGMA, SEEING, convolve, gaussian_kernel, known_degradation
from galaxy_models.image_towers import LvmTower
from galaxy_models.inputs import InputError, InputSpec
from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.predictor import Predictor
from galaxy_models.search_model import SearchNetwork
from galaxy_models.search_view import View

INPUTS = InputSpec(("g", "r", "z"), 32, 32, 1, (0.2, 0.3), True)
SCHEMES = [HeadScheme("kind", "", "classes", ("round", "spiral")), HeadScheme("shape", "", "values", ("radius",))]


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    lvm = build_lvm("nano", tells_answers=True)
    search = SearchNetwork(lvm, View(measured=True, rings=True, told=True))
    search.weights.fill_(0.1)
    return {
        "lvm": lvm,
        "morphology": MultiTaskNetwork(lvm, SCHEMES),
        "align": GalaxAlign(LvmTower(lvm), 16, {"kind": ["spiral", "ring"]}),
        "search": search,
    }


def predictor_of(network: nn.Module, inputs: InputSpec = INPUTS) -> Predictor:
    return Predictor(ModelCard("a-model", {}, inputs), network)


def galaxies(side: int = 48) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Galaxies of (2, 3, side, side) nanomaggies under the sharpest and under a bad sky; FWHM (arcsec) and noise."""
    y, x = torch.meshgrid(*[torch.arange(side) - side / 2] * 2, indexing="ij")
    light = (
        torch.exp(-((x**2 + (y / 0.5) ** 2) ** 0.5) / 3).expand(2, 3, side, side)
        * torch.tensor([5.0, 0.5])[:, None, None, None]
    )
    best = torch.tensor([SEEING[band].low for band in INPUTS.bands]).expand(2, 3)
    seeing, noise = torch.tensor([2.2, 2.0, 1.8]).expand(2, 3), torch.tensor([0.01, 0.015, 0.03]).expand(2, 3)
    sharp = convolve(light, gaussian_kernel(best, 21))
    seen = convolve(light, gaussian_kernel(seeing / FWHM_PER_SIGMA / 0.262, 41))
    seen = seen + noise[..., None, None] * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    return sharp, seen, seeing.numpy(), noise.numpy()


def test_fluxes_are_restored_to_the_surveys_sharpest() -> None:
    network = MultiTaskNetwork(networks()["lvm"], (), restores="flux")
    predictor = predictor_of(network, InputSpec(("g", "r", "z"), 48, 48, 1, (0.2, 0.3), True))
    predictor.batch_size = 1
    sharp, seen, seeing, noise = galaxies()
    restored = predictor.restore(seen.numpy(), "nanomaggy", 0.262, seeing, noise)
    assert restored.shape == seen.shape and restored.dtype == np.float32
    before, after = ((images - sharp.numpy()).std(axis=(2, 3)) for images in (seen.numpy(), restored))
    assert (after < 0.7 * before).all()
    middle = np.s_[..., 12:-12, 12:-12]
    error = (restored - sharp.numpy())[middle].sum(axis=(2, 3))
    assert (np.abs(error) < 3 * 24 * noise).all(), "of the light, as far as the noise of 24 x 24 pixels lets one know"
    alike = predictor.restore(seen.numpy(), "nanomaggy", 0.0, seeing[0], list(noise[0]))
    assert np.array_equal(alike, restored), "one number a band for all images; an unknown scale is the survey's"


def test_a_star_at_the_crops_edge_does_not_ring() -> None:
    network = MultiTaskNetwork(networks()["lvm"], (), restores="flux")
    star = torch.zeros(1, 3, 64, 64)
    star[..., 32, 8] = 500.0
    seeing, noise = torch.full((1, 3), 2.0), torch.full((1, 3), 0.01)
    seen = convolve(star, gaussian_kernel(seeing / FWHM_PER_SIGMA / 0.262, 41))
    inputs = InputSpec(("g", "r", "z"), 64, 48, 1, (0.2, 0.3), True)
    restored = predictor_of(network, inputs).restore(seen.numpy(), "nanomaggy", 0.262, seeing[0], noise[0])
    inside = seen[..., 8:-8, 8:-8].numpy()
    alone = network.restore_flux(torch.from_numpy(inside), known_degradation(seeing, noise, inputs.bands)).detach()
    away = np.s_[..., 16:]
    assert np.abs(restored[away]).max() < 0.2 * np.abs(alone.numpy()[away]).max()


def test_pictures_are_restored_as_the_model_sees_them() -> None:
    predictor = predictor_of(
        MultiTaskNetwork(networks()["lvm"], ()), InputSpec(("g", "r", "z"), 64, 64, 2, (0.2, 0.3), True)
    )
    images = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    restored = predictor.restore(images, "rgb", 0.25)
    assert restored == pytest.approx(images.reshape(3, 3, 32, 2, 32, 2).mean(axis=(3, 5)), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": "rgb"}, "units='nanomaggy'"),
        ({"seeing": None}, "seeing is not given.*g, r, z"),
        ({"noise": None}, "noise is not given"),
        ({"seeing": [1.2, 1.3]}, r"seeing has shape \(2,\); legal are \(3,\) and \(2, 3\)"),
        ({"noise": [0.1, 0.0, 0.1]}, "noise is 0 somewhere.*above zero"),
        ({"seeing": [1.2, np.nan, 1.1]}, "seeing is nan"),
        ({"images": np.zeros((2, 3, 40, 40), np.float32)}, "40 x 40"),
    ],
)
def test_what_cannot_be_restored_is_refused(changes: dict[str, Any], message: str) -> None:
    predictor = predictor_of(MultiTaskNetwork(networks()["lvm"], (), restores="flux"))
    given = {
        "images": np.zeros((2, 3, 32, 32), np.float32), "units": "nanomaggy", "pixel_scale": 0.262,
        "seeing": [1.2, 1.2, 1.1], "noise": [0.01, 0.01, 0.02],
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        predictor.restore(**given | changes)


def test_a_model_that_restores_nothing_says_which_does() -> None:
    with pytest.raises(InputError, match="a-model restores nothing; galaxy-morphology does"):
        predictor_of(networks()["lvm"]).restore(np.zeros((1, 3, 32, 32), np.float32), "rgb", 0.25)


@pytest.mark.parametrize("kind", list(networks()))
def test_in_bfloat16_the_answers_are_the_same_to_a_percent(kind: str) -> None:
    network = networks()[kind]
    predictor = predictor_of(network)
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
    predictor_of(network).hasten(bfloat16=True, compiled=True)
    assert not network.encodes_in_bfloat16
    assert all(part._compiled_call_impl is None for part in network.modules())
