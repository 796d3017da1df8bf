"""Simulated objects that several tests look at, chosen by kind from a fixed seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from galaxy_models.simulation.canvas import Canvas, canvas
from galaxy_models.simulation.scene import SimulatedObject, draw_object, galaxy_modes


@pytest.fixture(scope="session")
def grid() -> Canvas:
    return canvas(152, 0.262)


@pytest.fixture(scope="session")
def population() -> list[SimulatedObject]:
    return [draw_object(11, index) for index in range(2000)]


@pytest.fixture(scope="session")
def of_kind(population: list[SimulatedObject]) -> Callable[..., list[SimulatedObject]]:
    def choose(kind: str, count: int, largest: float = 9.0) -> list[SimulatedObject]:
        found = [
            one
            for one in population
            if one.galaxy.kind == kind
            and one.einstein_radius is None
            and (one.galaxy.disturbance or one.galaxy.half_light_radius < largest)
        ]
        assert len(found) >= count
        return found[:count]

    return choose


@pytest.fixture(scope="session")
def seen_sharp(grid: Canvas) -> Callable[[SimulatedObject, str], np.ndarray]:
    """The galaxy alone, without seeing or noise, as (size, size) flux per pixel."""

    def draw(simulated: SimulatedObject, band: str = "r") -> np.ndarray:
        generator = np.random.default_rng(0)
        return np.asarray(grid.stamp(galaxy_modes(grid, simulated.galaxy, (band,), generator)[0]), np.float64)

    return draw
