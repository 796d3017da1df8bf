"""The loss of each of the four tasks, and the validation that moves their shares."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from galaxy_models.aperture_photometry import decentred
from galaxy_models.augment import Augmentation, augmented_input, random_geometry
from galaxy_models.ellipticity import turned
from galaxy_models.heads import ClassificationHead, ParameterHead, VotesHead
from galaxy_models.inputs import InputSpec
from galaxy_models.masking import masked_l1, random_masks
from galaxy_models.multitask import MultiTaskNetwork
from galaxy_models.shares import TaskShares
from galaxy_models.training import Objective, encoder_groups, step_seed, this_process
from tasks.train.degraded_pairs import DegradedPairs
from tasks.train.finetune_batches import BatchDrawer, Turn

SHARES_STREAM = 1
"""Keeps the draw of the task apart from the draws of the batch itself, which have the same number."""


@dataclass(frozen=True)
class LossWeights:
    """How the losses are put together.

    Attributes
    ----------
    encoder_rate
        Learning rate of the pre-trained network, in units of the heads'.
    layer_decay
        What slows its earlier stages down, see `encoder_groups`.
    mask_patch, mask_fraction
        Masks of the reconstruction: side of a patch in pixels of the network's input, share that is hidden.
    """

    label_smoothing: float
    votes: float
    encoder_rate: float
    mask_patch: int
    mask_fraction: float
    layer_decay: float = 1.0


class MultiTaskObjective(Objective):
    """What `fit` trains: each batch one task, drawn by the shares.

    Parameters
    ----------
    units
        Of the stored stamps.
    validate
        Gives the validation score in 0..1 of each task; called every `evaluate_steps` steps.
    """

    every_parameter_learns = False  # a batch is of one task, and the other tasks' heads are not asked

    def __init__(
        self,
        network: MultiTaskNetwork,
        drawer: BatchDrawer,
        pairs: DegradedPairs,
        shares: TaskShares,
        inputs: InputSpec,
        units: str,
        augmentation: Augmentation,
        weights: LossWeights,
        evaluate_steps: int,
        validate: Callable[[MultiTaskNetwork], Mapping[str, float]],
    ) -> None:
        super().__init__()
        self.network = network
        self.drawer = drawer
        self.pairs = pairs
        self.shares = shares
        self.inputs = inputs
        self.units = units
        self.augmentation = augmentation
        self.weights = weights
        self.evaluate_steps = evaluate_steps
        self.validate = validate

    def batches_from(self, start: int) -> Iterator[dict[str, Any]]:
        """This process's batches from `start` on; each is drawn by the shares as they are when its step begins.

        Every process takes the turns of all, so that each knows whose is next.
        """
        processes = this_process()
        for first in itertools.count(start, processes.count):
            taken = [self._turn(first + rank) for rank in range(processes.count)]
            yield self.drawer.draw(first + processes.rank, taken[processes.rank])

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss of one batch of one task; the metric's name carries the task."""
        task = batch["task"]
        if task == "restoration":
            loss = self._restoration(batch, generator)
        elif task == "reconstruction":
            loss = self._reconstruction(batch, generator)
        else:
            loss = self._labelled(batch, generator)
        return loss, {f"{task}.loss": loss.detach()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The pre-trained network learns slower than the heads, which start from nothing."""
        return [
            *encoder_groups(self.network.lvm, self.weights.encoder_rate, self.weights.layer_decay),
            {"module": self.network.norm, "learning_rate_scale": 1.0},
            {"module": self.network.heads, "learning_rate_scale": 1.0},
            {"module": self.network.restoration, "learning_rate_scale": 1.0},
        ]

    def validate_trained(self, network: MultiTaskNetwork) -> dict[str, float]:
        """Validation score of each task that has a share of the training."""
        return {task: score for task, score in self.validate(network).items() if self.shares.shares[task]}

    def extra_state(self) -> dict[str, Any]:
        """Shares and turns."""
        return {"shares": self.shares.state(), "turns": dict(self.drawer.turns)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take them up again."""
        self.shares.restore(state["shares"])
        self.drawer.turns = dict(state["turns"])

    def on_step_end(self, step: int) -> Mapping[str, float] | None:
        """Every `evaluate_steps` steps: score each task on validation stamps, and let the shares follow.

        Of several processes one scores, so that all have the same shares.
        """
        if (step + 1) % self.evaluate_steps:
            return None
        processes = this_process()
        scores: dict[str, float] = {}
        if processes.leads:
            self.network.eval()
            with torch.no_grad():
                scores = dict(self.validate(self.network))
            self.network.train()
        scores = processes.gathered(scores)[0]
        shares = self.shares.update(scores)
        kinds = {"validation": scores, "deficit": self.shares.deficits(scores), "share": shares}
        return {f"{kind}.{task}": value for kind, values in kinds.items() for task, value in values.items()}

    def _turn(self, number: int) -> Turn:
        """What batch `number` learns."""
        seed = step_seed(self.drawer.seed + SHARES_STREAM, number)
        return self.drawer.turn(self.shares.draw(torch.Generator().manual_seed(seed)))

    def _labelled(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        augmentation = unmeasured(self.augmentation) if batch["task"] == "parameters" else self.augmentation
        geometry = random_geometry(len(batch["images"]), augmentation, generator)
        rgb = augmented_input(batch["images"], self.units, self.inputs, augmentation, generator, geometry=geometry)
        seen = self.network.see(rgb, self._fluxes(batch, generator), geometry.angle)
        losses = []
        for table, targets in batch["targets"].items():
            head = self.network.heads[table]
            if isinstance(head, ClassificationHead):
                loss = head.loss(seen.pooled, targets["code"], label_smoothing=self.weights.label_smoothing)
            elif isinstance(head, VotesHead):
                votes = {question: targets[f"{question}.votes"] for question, _ in head.questions}
                loss = self.weights.votes * head.loss(seen.pooled, targets, votes)
            else:
                assert isinstance(head, ParameterHead)
                # fluxes lie in the store as in FITS images, south first; pictures north first
                south_first = self.units == "nanomaggy"
                values = turned(targets["value"], head.parameters_named, geometry.angle, south_first)
                loss = head.loss(seen, values)
            losses.append(loss)
        return torch.stack(losses).sum()

    def _fluxes(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor | None:
        """What photometry is measured on, if the task asks for any: as they lie, for numbers are turned more easily."""
        if batch["task"] != "parameters" or self.inputs.fluxes(batch["images"], self.units) is None:
            return None
        return self.inputs.fluxes(decentred(batch["images"], generator), self.units)

    def _restoration(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        pair = self.pairs.make(batch["images"], batch["rows"], generator).turned(generator)
        return self.pairs.loss(self.pairs.restored(self.network, pair), pair)

    def _reconstruction(self, batch: dict[str, Any], generator: torch.Generator) -> Tensor:
        rgb = augmented_input(batch["images"], self.units, self.inputs, self.augmentation, generator)
        height, width = rgb.shape[-2:]
        hidden = random_masks(len(rgb), height, width, self.weights.mask_patch, self.weights.mask_fraction, generator)
        rebuilt = self.network.reconstruct(rgb, hidden).float()
        # in units of what guessing the batch's mean colour would cost
        scale = (rgb - rgb.mean(dim=(0, 2, 3), keepdim=True)).abs().mean().clamp_min(1e-3)
        return masked_l1(rebuilt, rgb, hidden) / scale


def unmeasured(augmentation: Augmentation) -> Augmentation:
    """The part of an augmentation that leaves every parameter as it was measured, but for those that turn with it.

    A resized stamp has another radius, a brighter one another magnitude, and a mirrored spiral turns the other way.
    """
    return replace(augmentation, resize=0.0, mirror=0.0, brightness=0.0, colour=0.0)
