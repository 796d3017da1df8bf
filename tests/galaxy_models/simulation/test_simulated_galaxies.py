"""What the catalogue says of a simulated galaxy is what a measurement on its pixels finds."""

from __future__ import annotations

from collections.abc import Callable

import galsim
import numpy as np
import pytest

from galaxy_models.simulation.canvas import Canvas
from galaxy_models.simulation.disk import draw_disk
from galaxy_models.simulation.encounter import draw_encounter
from galaxy_models.simulation.galaxy import (
    Arms,
    Bulge,
    Disk,
    edge_on_axis_ratio,
    equivalent_sersic_index,
    light_profile,
    radius_enclosing,
)
from galaxy_models.simulation.lensing import MOFFAT_BETA
from galaxy_models.simulation.observing import transfer

ROUND_ONES = ("round_smooth", "in_between_smooth", "cigar_smooth")


def offsets(size: int, step: float = 0.262) -> tuple[np.ndarray, np.ndarray]:
    line = (np.arange(size) - (size - 1) / 2) * step
    return np.meshgrid(line, line)


@pytest.mark.parametrize("kind", [*ROUND_ONES, "edge_on_disk", "spiral", "disturbed"])
@pytest.mark.parametrize("band", ["g", "z"])
def test_stamp_holds_the_flux_of_the_magnitude(kind, band, of_kind, seen_sharp) -> None:
    for simulated in of_kind(kind, 4, largest=3.0):
        total = 10 ** (0.4 * (22.5 - simulated.galaxy.magnitude(band)))
        inside = seen_sharp(simulated, band).sum()
        # What is missing is light beyond the stamp: wings of steep profiles, tails of mergers.
        assert 0.80 * total < inside < 1.005 * total


@pytest.mark.parametrize("kind", [*ROUND_ONES, "spiral", "featured_disk"])
def test_half_of_the_light_is_within_the_half_light_ellipse(kind, of_kind, seen_sharp) -> None:
    x, y = offsets(152)
    ratios = []
    for simulated in of_kind(kind, 6):
        galaxy = simulated.galaxy
        dx, dy = x - galaxy.offset[0], y - galaxy.offset[1]
        along = dx * np.cos(galaxy.angle) + dy * np.sin(galaxy.angle)
        across = dy * np.cos(galaxy.angle) - dx * np.sin(galaxy.angle)
        ellipse = np.hypot(along, across / galaxy.axis_ratio) < galaxy.half_light_radius
        ratios.append(seen_sharp(simulated)[ellipse].sum() / galaxy.flux("r"))
    assert np.abs(np.array(ratios) - 0.5).max() < 0.04


def test_sersic_galaxy_through_seeing_is_what_galsim_draws(grid: Canvas) -> None:
    fwhm, angle, axis_ratio = 1.3, 0.7, 0.6
    modes = grid.transform(grid.sersic(2.5, 4.0, axis_ratio, angle))
    ours = grid.stamp(modes * transfer(grid.wavenumber, fwhm))
    profile = galsim.Sersic(n=4.0, half_light_radius=2.5 * axis_ratio**0.5)
    profile = profile.shear(q=axis_ratio, beta=angle * galsim.radians)
    seen = galsim.Convolve(profile, galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm))
    theirs = seen.drawImage(nx=152, ny=152, scale=0.262, method="no_pixel").array
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.01)


@pytest.mark.parametrize("fwhm", [1.0, 1.5, 2.4])
def test_star_is_as_wide_as_the_seeing(grid: Canvas, fwhm: float) -> None:
    star = grid.stamp(grid.shift(0.131, 0.131) * transfer(grid.wavenumber, fwhm))  # on a pixel's centre
    image = galsim.Image(np.array(star, np.float64), scale=0.262)
    assert star.sum() == pytest.approx(1, abs=0.01)
    assert image.view().calculateFWHM(center=galsim.PositionD(77, 77)) == pytest.approx(fwhm, rel=0.03)


@pytest.mark.parametrize("thickness", [0.0, 0.25])
def test_moments_give_axis_ratio_and_position_angle(grid: Canvas, thickness: float) -> None:
    axis_ratio = edge_on_axis_ratio(thickness) if thickness else 0.55
    angle = np.deg2rad(35)
    disk = Disk(scale_radius=1.6, axis_ratio=axis_ratio, thickness=thickness)
    light = draw_disk(grid, disk, angle, np.random.default_rng(3)).old.astype(np.float64)
    xx, yy, xy = (np.sum(light * m) for m in (grid.x**2, grid.y**2, grid.x * grid.y))
    small, large = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
    # Disks are lopsided at random, and bend; that alone moves the moments by some percent.
    assert np.sqrt(small / large) == pytest.approx(axis_ratio, rel=0.06)
    assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(angle, abs=0.06)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("handedness", [1, -1])
def test_fourier_modes_find_number_pitch_and_sense_of_arms(grid: Canvas, count: int, handedness: int) -> None:
    pitch = 18.0
    arms = Arms(count, pitch, strength=0.9, phase=0.4, handedness=handedness, flocculence=0.05)
    disk = Disk(scale_radius=3.0, axis_ratio=1.0, arms=arms)
    light = draw_disk(grid, disk, 0.0, np.random.default_rng(5)).young.astype(np.float64)
    radius, azimuth = np.hypot(grid.x, grid.y), np.arctan2(grid.y, grid.x)
    ring = (radius > 1.0 * 3) & (radius < 2.8 * 3)

    def power(guess: tuple[int, int, float]) -> float:
        mode, sense, degrees = guess
        wound = azimuth - sense / np.tan(np.deg2rad(degrees)) * np.log(radius / 3)
        return float(np.abs(np.sum((light * radius**2 * np.exp(-1j * mode * wound))[ring])))

    guesses = [(mode, sense, degrees) for mode in range(1, 7) for sense in (1, -1) for degrees in (10.0, 18.0, 32.0)]
    assert max(guesses, key=power) == (count, handedness, pitch)


def test_dust_and_arms_leave_the_flux_as_it_is(grid: Canvas) -> None:
    arms = Arms(2, 15.0, strength=1.0, phase=0.0, handedness=1, flocculence=0.5)
    disk = Disk(scale_radius=1.5, axis_ratio=0.7, dust=0.7, arms=arms)
    layers = draw_disk(grid, disk, 0.3, np.random.default_rng(1))
    plain = draw_disk(grid, Disk(scale_radius=1.5, axis_ratio=0.7), 0.3, np.random.default_rng(1))
    assert layers.depth is not None and layers.depth.max() > 0.1
    for name in ("old", "young"):
        seen = layers.seen(getattr(layers, name), "g")
        assert seen.sum() == pytest.approx(getattr(plain, name).sum(), rel=0.01)


def test_profile_of_one_component_is_that_component() -> None:
    radii, enclosed = light_profile((1.0, 0.0, 0.0), Bulge(2.0, 4.0, 0.8), None)
    assert radius_enclosing(0.5, radii, enclosed) == pytest.approx(2.0, rel=0.01)
    assert equivalent_sersic_index(radii, enclosed) == pytest.approx(4.0, rel=0.03)
    radii, enclosed = light_profile((0.0, 1.0, 0.0), None, Disk(1.0, 0.7))
    assert radius_enclosing(0.5, radii, enclosed) == pytest.approx(1.678, rel=0.01)
    assert equivalent_sersic_index(radii, enclosed) == pytest.approx(1.0, rel=0.03)


def test_passage_pulls_out_tails() -> None:
    apart = []
    for seed in range(4):
        encounter = draw_encounter(np.random.default_rng(seed))
        own = np.hypot(*encounter.stars[~encounter.of_companion].T)
        other = np.hypot(*(encounter.stars[~encounter.of_companion] - encounter.companion).T)
        apart.append(np.mean((own > 6) & (other > 6)))
    # An undisturbed disk ends at five scale radii; its random motion takes no star beyond six.
    assert max(apart) > 0.02


def test_galaxies_differ_in_the_expected_sense(population) -> None:
    def colours(choose: Callable) -> float:
        return float(np.median([o.galaxy.magnitude("g") - o.galaxy.magnitude("r") for o in population if choose(o)]))

    assert colours(lambda o: o.galaxy.kind == "round_smooth") > colours(lambda o: o.galaxy.kind == "spiral") + 0.15
    radius = np.array([o.galaxy.half_light_radius for o in population if not o.galaxy.disturbance])
    magnitude = np.array([o.galaxy.magnitude("r") for o in population if not o.galaxy.disturbance])
    assert radius.min() >= 1.5 and radius.max() <= 9 and magnitude.min() >= 15.5 and magnitude.max() <= 20
    assert np.corrcoef(magnitude, np.log(radius))[0, 1] < -0.6
