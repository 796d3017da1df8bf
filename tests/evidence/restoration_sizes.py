"""How much the restoration simulates, trains and measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """How much is simulated, trained and measured.

    Attributes
    ----------
    tuned
        Validation stamps that classical methods choose their numbers on.
    rates, rate_steps
        Learning rates that each network chooses from on validation stamps, and the steps of those trials.
    pictures, picture_steps, picture_seeds
        The same for display space: training pictures, steps and seeds.
    """

    size: int = 64
    train: int = 800
    validation: int = 60
    test: int = 200
    tuned: int = 32
    batch: int = 8
    steps: int = 300
    rate_steps: int = 300
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    pedestals: tuple[float, ...] = (0.3, 1.0, 3.0)
    iterations: tuple[int, ...] = (2, 4, 8, 16, 32)
    balances: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)
    unet_width: int = 26
    pictures: int = 600
    test_pictures: int = 100
    picture_steps: int = 300
    picture_seeds: tuple[int, ...] = (0,)


SIZES = {
    "small": Sizes(steps=200, rate_steps=200, picture_steps=150),
    "middle": Sizes(),
    "full": Sizes(
        size=128,
        train=40_000,
        validation=500,
        test=2000,
        tuned=200,
        batch=32,
        steps=30_000,
        rate_steps=3000,
        seeds=(0, 1, 2, 3, 4),
        pedestals=(0.1, 0.3, 1.0, 3.0, 10.0),
        iterations=(1, 2, 4, 8, 16, 32, 64, 128),
        balances=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
        pictures=1_000_000,
        test_pictures=1_000_000,
        picture_steps=10_000,
        picture_seeds=(0, 1, 2, 3, 4),
    ),
}
