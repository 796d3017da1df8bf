"""Pre-training on simulated galaxies: tell what volunteers would say of them, which the simulator knows.

No real galaxy is labelled for it, and none needs to be: the pictures come beside those of the survey. What is learnt is
kept in the network, so that it can be asked for the answers, and heads for classes begin with them
(`volunteer_answers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .augment import Augmentation
from .inputs import InputSpec
from .lvm import GalaxyLVM
from .pooling import mean_and_spread
from .pretext import Pretext
from .volunteer_answers import answers_loss, mean_answers


@dataclass(frozen=True, eq=False)
class SimulatedPictures:
    """(S, 3, size, size) uint8 RGB and (S, answers) float32 chances; see `simulation.pictures`."""

    images: Tensor
    answers: Tensor


def picture_inputs(inputs: InputSpec, size: int) -> InputSpec:
    """How pictures of `size` pixels become what the network sees of the survey: the same crop, already binned."""
    return replace(inputs, stamp_size=size, crop=inputs.network_size, binning=1)


class SimulatedAnswers(Pretext):
    """Relative entropy of the volunteers' answers to those that the network's `answers` head tells.

    Each step looks at as many pictures as the batch has stamps, drawn by the step alone.

    Parameters
    ----------
    network
        With an `answers` head, which is trained along and kept. Batch statistics of an encoder that has them stay those
        of the survey's stamps.
    """

    def __init__(
        self, network: GalaxyLVM, pictures: SimulatedPictures, inputs: InputSpec, augmentation: Augmentation
    ) -> None:
        super().__init__(network, inputs, "rgb", augmentation, None)
        self.pictures = pictures

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss, and `answers_explained`: how much of the loss of who tells the batch's mean answers it has not."""
        count = len(batch["images"])
        chosen = torch.randint(len(self.pictures.images), (count,), generator=generator, device=generator.device)
        chosen = chosen.to(self.pictures.images.device)
        said = self.pictures.answers[chosen].to(generator.device)
        look = self.look({"images": self.pictures.images[chosen].to(generator.device)}, generator)
        with _statistics_kept(self.network):
            told = self.network.tell(mean_and_spread(self.network.encode(look)))
        loss = answers_loss(told, said)
        of_the_mean = answers_loss(mean_answers(said).clamp_min(1e-6).log().expand_as(said), said)
        return loss, {"answers_explained": 1 - loss.detach() / of_the_mean.clamp_min(1e-6)}


@contextmanager
def _statistics_kept(network: GalaxyLVM) -> Iterator[None]:
    """Let the running statistics of batch norms be."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
