"""A pretext: a task without labels that pre-training gives the network; and several of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from .augment import Augmentation, augmented_input
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .reobserve import Reobservation
from .training import Objective


class Pretext(Objective):
    """Base of the pretexts, which all begin with a new look at each stamp.

    A module that is trained along with the network, and not kept, is their attribute `head`.

    Parameters
    ----------
    network
        Is pre-trained.
    units
        Of the raw stamps in `batch["images"]`: `nanomaggy` or `rgb`; their catalogue rows are in `batch["rows"]`.
    reobservation
        By catalogue row, for fluxes: stamps are seen under the survey's seeing, noise and reddening (`reobserve`).
    """

    def __init__(
        self,
        network: GalaxyLVM,
        inputs: InputSpec,
        units: str,
        augmentation: Augmentation,
        reobservation: Reobservation | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.units = units
        self.augmentation = augmentation
        self.reobservation = reobservation

    def look(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        """(N, 3, h, w) in 0..1: the stamps of a batch, augmented anew at each call."""
        observation = None
        if self.reobservation is not None:
            observation = self.reobservation.of(batch["rows"], generator.device)
        return augmented_input(batch["images"], self.units, self.inputs, self.augmentation, generator, observation)


class Together(Objective):
    """Several pretexts on the same stamps: the weighted sum of their losses.

    Parameters
    ----------
    pretexts
        Name to pretext; all of one network.
    weights
        Of each of their losses.
    """

    def __init__(self, pretexts: Mapping[str, Pretext], weights: Mapping[str, float]) -> None:
        super().__init__()
        networks = [pretext.network for pretext in pretexts.values()]
        if any(network is not networks[0] for network in networks):
            raise ValueError(f"the pretexts {', '.join(pretexts)} must train one network; give all of them the same")
        self.network = networks[0]
        self.heads = nn.ModuleDict(
            {name: cast(nn.Module, each.head) for name, each in pretexts.items() if hasattr(each, "head")}
        )
        self.pretexts = tuple(pretexts.items())  # no module, so that the network's weights are kept once
        self.weights = dict(weights)

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The weighted sum; the metrics of all, and `<name>_loss` of each."""
        total = torch.zeros((), device=generator.device)
        told: dict[str, Tensor | float] = {}
        for name, pretext in self.pretexts:
            loss, metrics = pretext.training_step_at(step, batch, generator)
            total = total + self.weights[name] * loss
            told.update({**metrics, f"{name}_loss": loss.detach()})
        return total, told
