"""Stamps: noise, seeing and depth as the survey has them, arcs where there are lenses, the same bits every time."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from galaxy_models.simulation.observing import NOISE, draw_conditions
from galaxy_models.simulation.questions import QUESTIONS
from galaxy_models.simulation.scene import draw_object, draw_stamp
from galaxy_models.simulation.volunteers import draw_votes, visibility

ROOT = Path(__file__).parents[3]


def test_object_is_the_same_alone_in_a_batch_and_in_another_order() -> None:
    batch = [draw_stamp(draw_object(4, index), 96).flux for index in range(6)]
    alone = draw_stamp(draw_object(4, 3), 96).flux
    backwards = [draw_stamp(draw_object(4, index), 96).flux for index in reversed(range(6))][::-1]
    assert np.array_equal(alone, batch[3])
    assert all(np.array_equal(a, b) for a, b in zip(batch, backwards, strict=True))
    assert not np.array_equal(batch[3], draw_stamp(draw_object(5, 3), 96).flux)


def test_object_is_the_same_in_another_process_with_other_threads() -> None:
    code = (
        "from hashlib import sha256\n"
        "from galaxy_models.simulation.scene import draw_object, draw_stamp\n"
        "objects = [draw_object(4, i, lens_rate=0, merger_rate=0.6) for i in range(5)]\n"
        "print(*(sha256(draw_stamp(one, 96).flux).hexdigest() for one in objects))"
    )
    objects = [draw_object(4, i, lens_rate=0, merger_rate=0.6) for i in range(5)]
    assert any(one.galaxy.disturbance == "pair" for one in objects)
    here = [sha256(draw_stamp(one, 96).flux).hexdigest() for one in objects]
    elsewhere = {**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=elsewhere
    )
    assert answer.stdout.split() == here


def test_noise_is_that_of_the_catalogue() -> None:
    ratios, correlations = [], []
    for index in range(8):
        simulated = draw_object(21, index)
        noisy, clean = draw_stamp(simulated, 152), draw_stamp(simulated, 152, noise=False)
        difference = noisy.flux - clean.flux
        # Where there is no source: a source brings photons of its own.
        empty = clean.flux < 0.5 * np.array(simulated.conditions.noise)[:, None, None]
        for band in range(3):
            values = difference[band]
            ratios.append(values[empty[band]].std() / simulated.conditions.noise[band])
            both = empty[band][:, 1:] & empty[band][:, :-1]
            correlations.append(np.corrcoef(values[:, 1:][both], values[:, :-1][both])[0, 1])
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)
    assert np.mean(correlations) == pytest.approx(0.30, abs=0.03)


def test_bright_source_is_noisier_than_the_sky() -> None:
    simulated = draw_object(21, 0)
    bright = replace(
        simulated, galaxy=replace(simulated.galaxy, bulge_flux=(2e4, 2e4, 2e4), disk_flux=(0,) * 3, young_flux=(0,) * 3)
    )
    difference = draw_stamp(bright, 152).flux - draw_stamp(bright, 152, noise=False).flux
    middle, corner = difference[1, 70:82, 70:82].std(), difference[1, :12, :12].std()
    assert middle > 3 * corner


def test_conditions_follow_the_survey(population) -> None:
    # Medians of the published fits: loc + scale, as FWHM in arcsec and in nanomaggies.
    for i, (band, seeing) in enumerate({"g": 1.48, "r": 1.33, "z": 1.24}.items()):
        psf = np.median([one.conditions.psf_fwhm[i] for one in population])
        noise = np.median([one.conditions.noise[i] for one in population])
        assert psf == pytest.approx(seeing, rel=0.03)
        assert noise == pytest.approx(NOISE[band][1] + NOISE[band][2], rel=0.04)


def test_depth_is_the_inverse_variance_of_a_fitted_star() -> None:
    conditions = draw_conditions(np.random.default_rng(0), ("g", "r", "z"), 0.262)
    sigma = conditions.psf_fwhm[1] / 2.3548 / 0.262
    y, x = np.mgrid[-40:41, -40:41]
    psf = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    noise = conditions.noise[1] * np.random.default_rng(1).standard_normal((2000, 81, 81), dtype=np.float32)
    fluxes = np.einsum("nij,ij->n", noise, psf) / np.sum(psf**2)
    assert 1 / fluxes.var() == pytest.approx(conditions.depth("r"), rel=0.1)


@pytest.mark.parametrize(("lens_rate", "merger_rate"), [(0.0, 0.0), (0.05, 0.06), (0.4, 0.3)])
def test_rates_are_as_set(lens_rate: float, merger_rate: float) -> None:
    count = 1200
    objects = [draw_object(2, index, lens_rate=lens_rate, merger_rate=merger_rate) for index in range(count)]
    lenses = [one for one in objects if one.einstein_radius is not None]
    mergers = [one for one in objects if one.galaxy.disturbance]
    for found, rate in ((lenses, lens_rate), (mergers, merger_rate)):
        assert abs(len(found) - rate * count) <= 4 * np.sqrt(rate * (1 - rate) * count)
    assert all(one.galaxy.kind in ("round_smooth", "in_between_smooth") for one in lenses)
    assert all(one.galaxy.magnitude("g") - one.galaxy.magnitude("r") > 1.0 for one in lenses)


def test_arc_lies_at_the_einstein_radius() -> None:
    lenses = [draw_object(2, index, lens_rate=1.0, merger_rate=0.0) for index in range(4)]
    line = (np.arange(152) - 75.5) * 0.262
    for lens in lenses:
        stamp = draw_stamp(lens, 152, noise=False)
        without = draw_stamp(replace(lens, einstein_radius=None), 152, noise=False)
        arc = (stamp.flux - without.flux)[1]
        assert without.lens_mask is None and stamp.lens_mask is not None and stamp.lens_mask.any()
        assert arc[stamp.lens_mask].mean() > 5 * np.abs(arc[~stamp.lens_mask]).mean()
        # Images of a source off the axis by up to half an Einstein radius lie that much further in or out.
        distance = np.hypot(*np.meshgrid(line, line))[stamp.lens_mask]
        radius = np.average(distance, weights=arc[stamp.lens_mask])
        assert 0.5 < radius / lens.einstein_radius < 1.6


def test_neighbours_keep_clear_of_the_galaxy() -> None:
    for index in range(12):
        simulated = draw_object(31, index, lens_rate=0.0)
        alone = draw_stamp(simulated, 152, noise=False, field=False).flux
        around = draw_stamp(simulated, 152, noise=False).flux - alone
        # A star of r = 22 has 1.6 nanomaggies, 0.06 of them in its middle pixel; several faint things may overlap.
        assert around[1, 74:78, 74:78].max() < 0.15


def test_unknown_band_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not in \['u'\]"):
        draw_object(0, 0, bands=("u", "g", "r"))


def test_votes_go_down_the_tree(population) -> None:
    for simulated in population[:200]:
        votes = draw_votes(simulated)
        assert {question: tuple(answers) for question, answers in votes.items()} == QUESTIONS
        assert 30 <= sum(votes["smooth_or_featured"].values()) <= 60
        assert sum(votes["how_rounded"].values()) == votes["smooth_or_featured"]["smooth"]
        assert sum(votes["has_spiral_arms"].values()) == votes["disk_edge_on"]["no"]
        assert sum(votes["spiral_arm_count"].values()) == votes["has_spiral_arms"]["yes"]


def test_votes_follow_the_truth_where_it_can_be_seen(population) -> None:
    def featured(objects: list) -> float:
        votes = [draw_votes(one)["smooth_or_featured"] for one in objects]
        return float(np.mean([v["featured_or_disk"] / sum(v.values()) for v in votes]))

    spirals = sorted((one for one in population if one.galaxy.kind == "spiral"), key=visibility)
    third = len(spirals) // 3
    assert featured(spirals[-third:]) > featured(spirals[:third]) + 0.15
    assert featured([one for one in population if one.galaxy.kind == "round_smooth"]) < 0.1
    right = 0
    clear = [one for one in spirals[-third:] if one.galaxy.disk.arms.strength > 0.7]
    for one in clear:
        counts = draw_votes(one)["spiral_arm_count"]
        right += max(counts, key=counts.get) == str(one.galaxy.disk.arms.count)
    assert right > 0.85 * len(clear)
