"""Pre-training without labels by recognition: two looks at one galaxy are alike, and unlike those at any other.

The loss is SimCLR's (Chen et al. 2020), not VICReg's (Bardes et al. 2022). VICReg holds the covariance of all
dimensions of the projection near zero, and a batch of 32 cannot measure one of 128 dimensions: most of what it would
push against is the scatter of the sample. SimCLR asks of each look only which of the others is its partner, which any
batch can answer; with 32 galaxies there are 62 wrong answers. Galaxies are more alike than the objects of photographs,
hence a temperature as soft as that of Stein et al. (2021), who learnt so from the Legacy Surveys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .augment import Augmentation
from .contrastive import matching_loss
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .pooling import mean_and_spread
from .pretext import Pretext
from .reobserve import Reobservation

NEVER = -1e4
"""Logit of a choice that must not be made; its exponential is zero."""


class ProjectionHead(nn.Module):
    """From the encoder's maps to the unit vectors that the loss compares; used in pre-training only.

    What tells looks apart although they are of one galaxy (its orientation, its noise) is unlearnt here at the end, and
    may stay in the maps (Chen et al. 2020, section 4.2).
    """

    def __init__(self, lvm: GalaxyLVM, width: int = 256, size: int = 128) -> None:
        super().__init__()
        features = 2 * sum(lvm.channels)
        self.norm = nn.LayerNorm(features)
        self.first = nn.Linear(features, width)
        self.last = nn.Linear(width, size, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The maps of `GalaxyLVM.encode` to (N, `size`) float32 of length one."""
        pooled = mean_and_spread(maps)
        with torch.autocast(pooled.device.type, enabled=False):
            projected = self.last(functional.gelu(self.first(self.norm(pooled))))
            return functional.normalize(projected, dim=1)


class TwoViews(Pretext):
    """SimCLR's loss on two augmented views of each stamp.

    Parameters
    ----------
    head
        Is trained along, and not kept.
    temperature
        The smaller, the more the likest wrong ones count.
    """

    def __init__(
        self,
        network: GalaxyLVM,
        head: ProjectionHead,
        inputs: InputSpec,
        units: str,
        *,
        augmentation: Augmentation,
        temperature: float = 0.2,
        reobservation: Reobservation | None = None,
    ) -> None:
        super().__init__(network, inputs, units, augmentation, reobservation)
        self.head = head
        self.temperature = temperature

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss, and two numbers that tell whether it is one for the right reason.

        `view_match` is the share of views whose nearest is one of the same galaxy; `view_spread` falls to zero where
        the embedding collapses (`spread_of`).
        """
        rows = batch["rows"]
        views = [self.look(batch, generator) for _ in range(2)]
        vectors = cast(Tensor, self.head(self.network.encode(torch.cat(views))))
        galaxies = torch.cat([rows, rows]).to(vectors.device)
        loss = view_loss(vectors, galaxies, self.temperature)
        told = vectors.detach()
        return loss, {"view_match": view_match(told, galaxies), "view_spread": spread_of(told)}


def view_loss(vectors: Tensor, galaxies: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, equation 1): each view is to choose its partner among all other views.

    Parameters
    ----------
    vectors
        (M, D) unit vectors of all views.
    galaxies
        (M,) int64; views of one number are partners. More than two share the target (`matching_loss`), as where a
        batch holds the end of an epoch and the start of the next.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    with torch.autocast(vectors.device.type, enabled=False):
        logits = (vectors.float() @ vectors.float().T / temperature).masked_fill(itself, NEVER)
        return matching_loss(logits, _partners(galaxies, itself))


def view_match(vectors: Tensor, galaxies: Tensor) -> Tensor:
    """Share of the views (M, D) whose nearest other view is a partner."""
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    found = (vectors @ vectors.T).masked_fill(itself, NEVER).argmax(dim=1, keepdim=True)
    return _partners(galaxies, itself).gather(1, found).float().mean()


def spread_of(vectors: Tensor) -> Tensor:
    """Root-mean-square distance of unit vectors (M, D) from their mean: 0 if all are one, 1 if they lie all around."""
    return (vectors - vectors.mean(dim=0)).square().sum(dim=1).mean().sqrt()


def _partners(galaxies: Tensor, itself: Tensor) -> Tensor:
    return (galaxies[:, None] == galaxies[None, :]) & ~itself
