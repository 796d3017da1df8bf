"""Pairs for restoration: each stamp under its own conditions, both of a pair turned alike, errors told alike."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from galaxy_models.degradation import degrade_flux
from galaxy_models.inputs import InputSpec
from tasks.train.degraded_pairs import SEVERITY, degraded_pairs

SIDE = 40
BANDS = ("g", "r", "z")
INPUTS = InputSpec(BANDS, SIDE, SIDE, 1, (0.1, 0.3), True)


def test_pairs_take_each_stamps_own_pixel_scale() -> None:
    table = pd.DataFrame({"pixel_scale": [0.262, 0.131, float("nan")]})
    pairs = degraded_pairs(INPUTS, "nanomaggy", BANDS, table)
    star = torch.zeros(1, 3, SIDE, SIDE)
    star[..., SIDE // 2, SIDE // 2] = 50
    coarse, fine, unknown = (
        pairs.make(star, torch.tensor([row]), torch.Generator().manual_seed(3)).degraded for row in range(3)
    )
    assert torch.equal(unknown, coarse)
    assert not torch.equal(fine, coarse)
    expected = degrade_flux(star, BANDS, torch.Generator().manual_seed(3), pixel_scale=0.131, severity=SEVERITY)
    assert torch.allclose(fine, expected, atol=1e-5)


def test_both_of_a_pair_are_turned_alike_and_every_way() -> None:
    pairs = degraded_pairs(INPUTS, "rgb", ("R", "G", "B"), pd.DataFrame())
    images = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    plain = pairs.make(images, torch.arange(4), torch.Generator().manual_seed(0))
    seen = set()
    for seed in range(60):
        turned = plain.turned(torch.Generator().manual_seed(seed))
        assert pairs.error_left(turned.degraded, turned.degraded, turned.original) == 1
        done = (turned.degraded - turned.original).abs().mean()
        assert done == pytest.approx(float((plain.degraded - plain.original).abs().mean()), rel=1e-4)
        seen.add(turned.original.numpy().tobytes())
    assert len(seen) == 8


def test_errors_of_faint_and_bright_fluxes_count_alike() -> None:
    pairs = degraded_pairs(INPUTS, "nanomaggy", BANDS, pd.DataFrame({"pixel_scale": [0.262, 0.262]}))
    original = torch.ones(2, 3, 8, 8) * torch.tensor([1.0, 1000.0])[:, None, None, None]
    worse = original * 1.2
    better = original * torch.tensor([1.0, 1.2])[:, None, None, None]
    assert pairs.error_left(worse, better, original) == pytest.approx(0.5)
    assert pairs.levels(original, original).amax() == 1
