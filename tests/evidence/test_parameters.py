"""The classical fit finds what it should, the summary sees bias and outliers, and a run goes on where it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from tests.evidence import parameters, parameters_tables
from tests.evidence.sersic_fit import SersicFitter, sersic_image
from tests.evidence.workbench import Workbench

SCALE = 0.262
TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)


@pytest.mark.parametrize("index", [1.0, 2.5])
def test_the_fit_recovers_a_sersic_profile_from_a_moffat_psf(index: float) -> None:
    fitter = SersicFitter(64, SCALE)
    truth = np.array([np.log(40.0), np.log(1.8), index, 0.6, 0.7, 0.1, -0.05])
    image = fitter.model(truth, fitter.psf(1.4)) + 1e-3 * np.random.default_rng(0).standard_normal((64, 64))
    found = fitter.fit(image.astype(np.float32), noise=1e-3, psf_fwhm=1.4)
    assert found.converged
    assert found.mag_r == pytest.approx(22.5 - 2.5 * np.log10(40), abs=0.01)
    assert found.half_light_radius == pytest.approx(1.8, rel=0.02)
    assert found.axis_ratio == pytest.approx(0.6, abs=0.01)
    assert found.sersic_index == pytest.approx(index, rel=0.03)


def test_half_of_a_profiles_flux_lies_within_its_radius() -> None:
    image = sersic_image(257, 0.2, 5.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    place = (np.arange(257) - 128) * 0.2
    inside = np.hypot(place[:, None], place[None, :]) < 2.0
    assert image.sum() == pytest.approx(5.0, rel=0.01)
    assert image[inside].sum() == pytest.approx(2.5, rel=0.02)


def test_the_summary_sees_a_planted_bias_scatter_and_outliers() -> None:
    generator = np.random.default_rng(1)
    true = generator.uniform(16, 20, 4000)
    answer = true + 0.1 + 0.05 * generator.standard_normal(4000)
    answer[:200] += 3
    bias, scatter, outliers = parameters_tables.summary("mag_r", parameters_tables.errors("mag_r", answer, true))
    assert bias == pytest.approx(0.1, abs=0.01)
    assert scatter == pytest.approx(0.05, abs=0.006)
    assert outliers == pytest.approx(0.05)
    assert parameters_tables.errors("half_light_radius", [3.0], [2.0]) == pytest.approx(0.5)


def test_a_ratio_of_scatters_is_paired_and_an_interval_holds_it() -> None:
    generator = np.random.default_rng(2)
    common = generator.standard_normal(300)
    ours = [0.5 * common + 0.01 * generator.standard_normal(300) for _ in range(3)]
    ratio, low, high = parameters_tables.scatter_ratio(ours, [common])
    assert low < ratio < high and ratio == pytest.approx(0.5, abs=0.03)
    assert high - low < 0.1, "the same galaxies are drawn for both"


def test_a_run_keeps_its_table_and_a_second_run_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    tiny = parameters.Sizes(size=64, train=4, validation=3, test=3, batch=2, steps=2, seeds=(0, 1))
    monkeypatch.setitem(parameters.SIZES, "small", tiny)
    monkeypatch.setattr(parameters, "build_lvm", lambda preset: GalaxyLVM(TINY))
    parameters.run(Workbench("parameters"))
    assert "measuring" in capsys.readouterr().err
    table = (tmp_path / "evidence/small/tables" / "parameters.md").read_text()
    assert "half light radius, relative" in table and "learnt from 4 training galaxies" in table
    assert (tmp_path / "evidence/small/pictures" / "parameters.png").exists()
    parameters.run(Workbench("parameters"))
    assert "measuring" not in capsys.readouterr().err
