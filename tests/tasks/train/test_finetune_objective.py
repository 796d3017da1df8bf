"""What fine-tuning does to a stamp before it asks for its labels."""

from __future__ import annotations

from dataclasses import replace

import torch

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.inputs import InputSpec
from tasks.train.finetune_objective import unmeasured


def test_parameters_are_learnt_from_stamps_that_still_have_them() -> None:
    """A turn changes neither size nor brightness nor the sense of a spiral; nothing else may happen to the galaxy."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    radius, azimuth = torch.hypot(x, y), torch.atan2(y, x)
    spiral = torch.exp(-radius / 4) * (1 + torch.cos(2 * (azimuth - 2 * torch.log(radius + 1)))) / 4
    stamps = spiral.expand(64, 3, 64, 64)
    inputs = InputSpec(("g", "r", "z"), 64, 64, 1, (0.2, 0.3), unknown_pixel_scale=True)
    views = augmented_input(stamps, "rgb", inputs, replace(unmeasured(Augmentation()), shift=0, noise=0), generator)

    def winding(images: torch.Tensor) -> torch.Tensor:
        phase = 2 * (azimuth - 2 * torch.log(radius + 1))
        against = 2 * (-azimuth - 2 * torch.log(radius + 1))
        power = [(images[:, 0] * torch.exp(1j * p)).sum(dim=(1, 2)).abs() for p in (phase, against)]
        return power[0] / power[1]

    assert (winding(views) > 2).all() and (winding(stamps.flip(3)) < 0.5).all()
    torch.testing.assert_close(views.sum(dim=(1, 2, 3)), stamps.sum(dim=(1, 2, 3)), rtol=0.06, atol=0)
    inside = [
        (images[:, 0] * (radius < 6)).sum(dim=(1, 2)) / images[:, 0].sum(dim=(1, 2)) for images in (views, stamps)
    ]
    torch.testing.assert_close(inside[0], inside[1], rtol=0.04, atol=0)  # a zoom of 15 % would change it by a fifth
