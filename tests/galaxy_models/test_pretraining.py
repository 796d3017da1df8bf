"""What the pretexts ask of the network, and what their numbers mean."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.masking import masked_l1, normalise_patches, random_masks
from galaxy_models.pretext import Together
from galaxy_models.pretraining import MaskedReconstruction, as_picture
from galaxy_models.reobserve import Reobservation
from galaxy_models.survey_statistics import ObservedConditions, Quantiles, SurveyStatistics
from galaxy_models.two_views import ProjectionHead, TwoViews

BANDS = ("g", "r", "z")
INPUTS = InputSpec(BANDS, 48, 32, 1, (0.2, 0.3), True)
STILL = Augmentation(rotation=0, shift=0, resize=0, mirror=0, brightness=0, colour=0, noise=0)
MEAN, SPREAD = torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.2, 0.1, 0.3])


class Painter(nn.Module):
    """Stands for a network that paints a given picture."""

    def __init__(self, picture: torch.Tensor) -> None:
        super().__init__()
        self.picture = picture
        self.rgb_mean, self.rgb_spread = MEAN, SPREAD

    def forward(self, rgb: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return self.picture


def pictures() -> torch.Tensor:
    return torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def network() -> GalaxyLVM:
    torch.manual_seed(0)
    return GalaxyLVM(LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (1, 1, 1, 1)))


def masked(lvm: nn.Module, units: str = "rgb", **changes: object) -> MaskedReconstruction:
    arguments = {"mask_patch": 8, "mask_fraction": 0.5, "augmentation": STILL, **changes}
    return MaskedReconstruction(cast(GalaxyLVM, lvm), INPUTS, units, **arguments)  # type: ignore[arg-type]


def step(objective: MaskedReconstruction) -> tuple[float, float]:
    batch = {"images": pictures(), "rows": torch.arange(4)}
    loss, metrics = objective.training_step_at(0, batch, torch.Generator().manual_seed(0))
    return float(loss), metrics["masked_l1"]


def test_who_paints_the_normalised_patches_has_no_loss_and_who_paints_the_picture_has() -> None:
    rgb = INPUTS.to_network(pictures(), "rgb")
    structure = normalise_patches(rgb, 8) * SPREAD.view(1, 3, 1, 1) + MEAN.view(1, 3, 1, 1)
    assert step(masked(Painter(structure), normalise_target=True))[0] == pytest.approx(0, abs=1e-3)
    assert step(masked(Painter(rgb), normalise_target=True))[0] > 0.3
    assert step(masked(Painter(rgb)))[0] == pytest.approx(0, abs=1e-4)


def test_the_reported_error_is_one_of_pictures_in_rgb_either_way() -> None:
    """The right structure with level and contrast of the surroundings is a better picture than a flat one."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    rgb = (0.4 + 0.01 * x + 0.1 * torch.sin(1.1 * x) * torch.cos(0.9 * y)).expand(4, 3, 32, 32)
    hidden = random_masks(4, 32, 32, 8, 0.5, torch.Generator().manual_seed(0))
    standard = [each.view(1, 3, 1, 1) for each in (SPREAD, MEAN)]
    errors = []
    for structure in (normalise_patches(rgb, 8), torch.zeros_like(rgb)):
        lvm = cast(GalaxyLVM, Painter(structure * standard[0] + standard[1]))
        picture = as_picture(lvm, lvm(rgb, hidden), rgb, hidden, 8)
        errors.append(float(masked_l1(picture, rgb, hidden)))
    assert errors[0] < 0.6 * errors[1] < 0.1
    plain = cast(GalaxyLVM, Painter(rgb))
    assert as_picture(plain, rgb, rgb, hidden, None) is rgb


def test_fluxes_are_observed_anew_by_the_rows_of_their_stamps() -> None:
    """Row 1 lies behind as much dust as is drawn and stays as it is; row 0 comes out from behind more."""
    unknown = torch.zeros(5, 3)
    own = ObservedConditions(unknown, unknown, torch.tensor([9.0, 4.0, 9.0, 9.0, 9.0]), torch.full((5,), 0.262))
    night = SurveyStatistics(BANDS, (None,) * 3, (None,) * 3, Quantiles((4.0,)))
    seen: list[torch.Tensor] = []

    class Witness(Painter):
        def forward(self, rgb: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
            seen.append(rgb)
            return rgb

    objective = masked(Witness(torch.zeros(1)), "nanomaggy", reobservation=Reobservation(own, night))
    batch = {"images": pictures()[:2] * 1e-3, "rows": torch.tensor([1, 0])}
    objective.training_step_at(0, batch, torch.Generator().manual_seed(0))
    plain = INPUTS.to_network(batch["images"], "nanomaggy")
    torch.testing.assert_close(seen[0][0], plain[0], atol=1e-4, rtol=0)
    assert seen[0][1].mean() > 1.5 * plain[1].mean(), "its light is no longer dimmed"


def test_pretexts_together_add_up_and_keep_the_network_once() -> None:
    lvm = network()
    head = ProjectionHead(lvm, 16, 8)
    views = TwoViews(lvm, head, INPUTS, "rgb", augmentation=Augmentation())
    both = Together({"masked": masked(lvm), "views": views}, {"masked": 1.0, "views": 0.25})
    batch = {"images": pictures(), "rows": torch.arange(4)}
    loss, metrics = both.training_step_at(0, batch, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(float(metrics["masked_loss"] + 0.25 * metrics["views_loss"]), rel=1e-5)
    assert {"masked_l1", "view_match", "view_spread"} < set(metrics)
    assert {name.split(".")[0] for name in both.state_dict()} == {"network", "heads"}
    loss.backward()
    for part in (lvm.encoder.stages, lvm.decoder_stages, head):
        assert all(p.grad is not None for p in part.parameters())
    with pytest.raises(ValueError, match="one network"):
        Together({"masked": masked(network()), "views": views}, {"masked": 1.0, "views": 1.0})
