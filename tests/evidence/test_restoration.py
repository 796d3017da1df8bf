"""The classical methods and the measures do what they are taken for, and a run goes on where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.degradation import Degradation
from galaxy_models.flux_restoration import deconvolve, flux_loss, restore_flux, stretch, unstretch
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from tests.evidence import restoration
from tests.evidence.deconvolution import RichardsonLucy, Wiener, restored
from tests.evidence.image_measures import decibels, measured, similarity
from tests.evidence.restoration_legacy import told
from tests.evidence.restoration_sizes import Sizes
from tests.evidence.restoration_spaces import FluxSpace, Pairs
from tests.evidence.simulated import sharp_stamp
from tests.evidence.stamps import Stamps
from tests.evidence.unet import PlainUNet
from tests.evidence.workbench import Workbench

TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    images = torch.from_numpy(np.stack([sharp_stamp(index, 64)["flux"] for index in range(9_000_000, 9_000_003)]))
    return FluxSpace(1.0).pairs(images, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("method", [RichardsonLucy(3.0, 8), Wiener(1.0)], ids=repr)
def test_a_known_kernel_undone_is_better_than_nothing_and_keeps_the_flux(
    pairs: Pairs, method: RichardsonLucy | Wiener
) -> None:
    sharp = restored(method, pairs.degraded, pairs.degradation)
    assert (decibels(sharp, pairs.sharp) > decibels(pairs.degraded, pairs.sharp) + 2).all()
    assert sharp.sum(dim=(2, 3)).numpy() == pytest.approx(pairs.degraded.sum(dim=(2, 3)).numpy(), rel=0.1)


def test_our_deconvolution_beats_a_wiener_filter_and_leaves_a_sharp_noiseless_image_alone(pairs: Pairs) -> None:
    ours = decibels(deconvolve(pairs.degraded, pairs.degradation), pairs.sharp)
    theirs = decibels(restored(Wiener(3.0), pairs.degraded, pairs.degradation), pairs.sharp)
    assert ours.mean() > theirs.mean()
    nothing = Degradation(torch.zeros(3, 3), torch.full((3, 3), 1e-6))
    assert decibels(deconvolve(pairs.sharp, nothing), pairs.sharp).min() > 60


def test_a_network_moves_light_and_makes_none(pairs: Pairs) -> None:
    def brightened(values: torch.Tensor) -> torch.Tensor:
        return 1.1 * values + 0.3  # a pedestal of a third of the noise, and brighter cores

    restored_flux = restore_flux(brightened, pairs.degraded, pairs.degradation)
    plain = deconvolve(pairs.degraded, pairs.degradation)
    assert not torch.allclose(restored_flux, plain, rtol=1e-3)
    assert restored_flux.sum(dim=(2, 3)).numpy() == pytest.approx(plain.sum(dim=(2, 3)).numpy(), rel=1e-3)


def test_an_untrained_network_gives_back_the_deconvolution_and_the_stretch_loses_nothing(pairs: Pairs) -> None:
    noise = pairs.degradation.noise
    back = unstretch(stretch(pairs.sharp, noise), noise)
    assert back.numpy() == pytest.approx(pairs.sharp.numpy(), rel=1e-3, abs=1e-4)
    network = PlainUNet(torch.zeros(3), torch.ones(3), width=4, levels=3)
    once = restore_flux(network.restore, pairs.degraded, pairs.degradation)
    assert once.detach().numpy() == pytest.approx(
        deconvolve(pairs.degraded, pairs.degradation).numpy(), rel=1e-3, abs=1e-3
    )


def test_the_u_net_begins_with_features_as_large_as_its_input(pairs: Pairs) -> None:
    torch.manual_seed(0)
    network = PlainUNet(torch.zeros(3), torch.ones(3))
    seen: list[float] = []
    network.last.register_forward_hook(lambda _, inputs, __: seen.append(float(inputs[0].std())))
    with torch.no_grad():
        network.restore(torch.randn(2, 3, 64, 64))
    assert 0.5 < seen[0] < 2


def test_the_loss_is_the_psnr_but_for_a_constant(pairs: Pairs) -> None:
    noise = pairs.degradation.noise
    first = flux_loss(pairs.degraded, pairs.sharp, noise)
    second = flux_loss(deconvolve(pairs.degraded, pairs.degradation), pairs.sharp, noise)
    gain = decibels(deconvolve(pairs.degraded, pairs.degradation), pairs.sharp) - decibels(pairs.degraded, pairs.sharp)
    assert float(10 * (first - second)) == pytest.approx(gain.mean(), abs=0.05)


def test_measures_see_a_planted_bias() -> None:
    place = torch.arange(64) - 31.5
    y, x = place[:, None], place[None, :]

    def galaxy(flux: float, size: float, axis_ratio: float) -> torch.Tensor:
        image = torch.exp(-torch.sqrt(x**2 + (y / axis_ratio) ** 2) / size)
        return (flux * image / image.sum())[None]

    true, planted = measured(galaxy(10, 3, 0.6)), measured(galaxy(11, 3, 0.6))
    assert planted["flux"] / true["flux"] == pytest.approx(1.1, rel=1e-5)
    assert planted["radius"] == pytest.approx(true["radius"], rel=1e-5)
    larger, rounder = measured(galaxy(10, 3.6, 0.6)), measured(galaxy(10, 3, 0.8))
    assert larger["radius"][0] / true["radius"][0] == pytest.approx(1.14, abs=0.06)
    assert rounder["axis_ratio"][0] > true["axis_ratio"][0] + 0.08
    empty = measured(torch.full((1, 64, 64), -0.1))
    assert np.isnan(empty["flux"]).all()


def test_psnr_on_fluxes_is_of_the_truths_peak_and_ssim_of_itself_is_one(pairs: Pairs) -> None:
    sharp = pairs.sharp
    wrong = sharp + 0.01 * sharp.amax(dim=(2, 3), keepdim=True)
    assert decibels(wrong, sharp) == pytest.approx(40, abs=0.01)
    assert decibels(1000 * wrong, 1000 * sharp) == pytest.approx(40, abs=0.01)
    assert similarity(sharp, sharp) == pytest.approx(1)


def test_gains_on_real_fluxes_are_over_the_degraded_stamps_with_their_interval() -> None:
    degraded = {"db": [20.0, 22.0], "ssim": [0.4, 0.5]}
    better = {"db": [23.0, 25.0], "ssim": [0.6, 0.5]}
    cells = told({"degraded": degraded, "richardson_lucy": degraded, "ours": better, "u_net": better})
    assert cells[:4] == ["2", "21.00", "+0.00 (+0.00 to +0.00)", "+3.00 (+3.00 to +3.00)"]
    assert cells[5:8] == ["0.450", "+0.000 (+0.000 to +0.000)", "+0.100 (+0.000 to +0.200)"]


def test_a_run_tells_its_figure_and_a_second_run_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Sizes(
        train=4, validation=3, test=4, tuned=2, batch=2, steps=2, rate_steps=1, seeds=(0, 1), rates=(1e-3,),
        pedestals=(3.0,), iterations=(2, 4), balances=(1.0,), unet_width=4,
        pictures=4, test_pictures=3, picture_steps=2,
    )  # fmt: skip
    images = np.random.default_rng(3).integers(0, 255, (12, 3, 76, 76), dtype=np.uint8)
    table = pd.DataFrame({"source": "gz2", "split": ["train", "validation", "test"] * 4})
    pictures = Stamps(images, table)
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setattr("tests.benchmarks.result.RESULTS", tmp_path / "results.jsonl")
    monkeypatch.setitem(restoration.SIZES, "small", tiny)
    monkeypatch.setattr("tests.evidence.restoration_legacy.legacy_patches", lambda size: None)
    monkeypatch.setattr("tests.evidence.restoration_methods.build_lvm", lambda preset: GalaxyLVM(TINY))
    monkeypatch.setattr("tests.evidence.restoration_display.real_stamps", lambda: pictures)
    restoration.run(Workbench("restoration"))
    first = capsys.readouterr()
    assert '"restoration_gain_db_small"' in first.out
    assert "measuring" in first.err and "left out" in first.err
    table = (tmp_path / "evidence/small/tables" / "restoration.md").read_text()
    assert "u net" in table and "axis ratio" in table and "display space" in table
    assert (tmp_path / "evidence/small/pictures" / "restoration.png").exists()
    restoration.run(Workbench("restoration"))
    second = capsys.readouterr()
    assert "measuring" not in second.err
    assert second.out == first.out
