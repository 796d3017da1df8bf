"""Two disks that pass each other, as massless stars about two moving masses (Toomre and Toomre 1972).

Lengths are in scale radii of the primary's disk, masses in the primary's, and G = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STARS = 5000
TIME_STEP = 0.25
SOFTENING = 0.8
FRICTION = 0.035
DISPERSION = 0.12
"""Random over circular speed of disk stars: it makes tails as wide as they are."""

Vectors = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Encounter:
    """Where everything is, as seen on the sky, the primary's nucleus at (0, 0).

    Attributes
    ----------
    stars
        (N, 2) positions.
    of_companion
        (N,) bool.
    companion
        (2,) position of the companion's nucleus.
    mass_ratio
        Companion over primary.
    """

    stars: Vectors
    of_companion: NDArray[np.bool_]
    companion: Vectors
    mass_ratio: float


def draw_encounter(generator: np.random.Generator) -> Encounter:
    """A near-parabolic passage, seen some time after it, or rarely before, from a random side."""
    ratio = float(generator.uniform(0.25, 1.0))
    pericentre = float(generator.uniform(1.8, 4.0))
    start, velocity = _parabola(pericentre, 1 + ratio, true_anomaly=-1.9)
    primary = _disk_of_stars(STARS, 1.0, 1.0, _tilt(generator, 0.9), generator)
    second_scale = ratio**0.5
    second = _disk_of_stars(int(STARS * ratio), ratio, second_scale, _tilt(generator, np.pi), generator)
    share = ratio / (1 + ratio)
    bodies = np.stack([-share * start, (1 - share) * start])
    drift = np.stack([-share * velocity, (1 - share) * velocity])
    stars = np.concatenate([primary[0] + bodies[0], second[0] + bodies[1]])
    motion = np.concatenate([primary[1] + drift[0], second[1] + drift[1]])
    steps = int(generator.integers(70, 190))
    masses, softenings = (1.0, ratio), (SOFTENING, SOFTENING * second_scale)
    for _ in range(steps):
        bodies = bodies + 0.5 * TIME_STEP * drift
        stars = stars + 0.5 * TIME_STEP * motion
        drift = drift + TIME_STEP * _body_forces(bodies, drift, ratio)
        motion = motion + TIME_STEP * (
            _pull(stars, bodies[0], masses[0], softenings[0]) + _pull(stars, bodies[1], masses[1], softenings[1])
        )
        bodies = bodies + 0.5 * TIME_STEP * drift
        stars = stars + 0.5 * TIME_STEP * motion
    sight = _rotation(*generator.uniform(0, 1, 3))[:2]
    return Encounter(
        stars=_turn(stars - bodies[0], sight),
        of_companion=np.arange(len(stars)) >= STARS,
        companion=_turn((bodies[1] - bodies[0])[None], sight)[0],
        mass_ratio=ratio,
    )


def _turn(vectors: Vectors, rotation: Vectors) -> Vectors:
    """Rotate (N, 3) vectors; not by a matrix product, whose rounding depends on the number of threads."""
    turned: Vectors = np.einsum("ij,kj->ik", vectors, rotation)
    return turned


def _parabola(pericentre: float, mass: float, true_anomaly: float) -> tuple[Vectors, Vectors]:
    """Relative position and velocity on a parabolic orbit in the x-y plane."""
    distance = 2 * pericentre / (1 + np.cos(true_anomaly))
    speed = np.sqrt(mass / (2 * pericentre))
    position = distance * np.array([np.cos(true_anomaly), np.sin(true_anomaly), 0.0])
    velocity = speed * np.array([-np.sin(true_anomaly), 1 + np.cos(true_anomaly), 0.0])
    return position, velocity


def _disk_of_stars(
    count: int, mass: float, scale: float, orientation: Vectors, generator: np.random.Generator
) -> tuple[Vectors, Vectors]:
    """Positions and velocities (count, 3) on nearly circular orbits of an exponential disk."""
    radius = scale * np.minimum(generator.gamma(2.0, 1.0, count), 5.0)
    angle = generator.uniform(0, 2 * np.pi, count)
    speed = np.sqrt(mass) * radius / (radius**2 + (SOFTENING * scale) ** 2) ** 0.75
    cos, sin = np.cos(angle), np.sin(angle)
    position = np.stack([radius * cos, radius * sin, 0.12 * scale * generator.standard_normal(count)], axis=1)
    velocity = np.stack([-speed * sin, speed * cos, np.zeros(count)], axis=1)
    velocity += (DISPERSION * speed)[:, None] * generator.standard_normal((count, 3))
    return _turn(position, orientation), _turn(velocity, orientation)


def _pull(stars: Vectors, body: Vectors, mass: float, softening: float) -> Vectors:
    apart = body - stars
    distance2 = np.einsum("ij,ij->i", apart, apart) + softening**2
    pull: Vectors = apart * (mass / (distance2 * np.sqrt(distance2)))[:, None]
    return pull


def _body_forces(bodies: Vectors, drift: Vectors, ratio: float) -> Vectors:
    apart = bodies[1] - bodies[0]
    distance2 = float(apart @ apart) + SOFTENING**2
    pull = apart / distance2**1.5
    forces = np.stack([ratio * pull, -pull])
    # Haloes that overlap brake each other; without this every pair would part for good.
    brake = FRICTION * np.exp(-distance2 / 40) * (drift[1] - drift[0])
    share = ratio / (1 + ratio)
    forces += np.stack([share * brake, -(1 - share) * brake])
    return forces


def _tilt(generator: np.random.Generator, largest: float) -> Vectors:
    """A disk's rotation away from the orbit's plane by up to `largest` radians."""
    tilt, node = generator.uniform(0, largest), generator.uniform(0, 2 * np.pi)
    cos, sin = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    turn = np.array([[np.cos(node), -np.sin(node), 0], [np.sin(node), np.cos(node), 0], [0, 0, 1]])
    rotated: Vectors = turn @ about_x
    return rotated


def _rotation(first: float, second: float, third: float) -> Vectors:
    """A rotation uniform over all, from three uniform numbers (Shoemake 1992)."""
    a, b = np.sqrt(1 - first), np.sqrt(first)
    x, y = a * np.sin(2 * np.pi * second), a * np.cos(2 * np.pi * second)
    z, w = b * np.sin(2 * np.pi * third), b * np.cos(2 * np.pi * third)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
