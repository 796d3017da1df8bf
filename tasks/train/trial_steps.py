"""Each training stage's real networks and losses on random stamps: a few steps tell what the stage will cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from galaxy_models.align import GalaxAlign
from galaxy_models.align_objective import AlignObjective, PairWeights
from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.detection import LensFinder
from galaxy_models.image_towers import LvmTower
from galaxy_models.inputs import InputSpec
from galaxy_models.lens_objective import LensObjective
from galaxy_models.lvm import build_lvm
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.simulated_answers import SimulatedPictures
from galaxy_models.symbols import known_symbols
from galaxy_models.training import Objective
from galaxy_models.volunteer_answers import PLACES
from infra.profile import Profile, TrainingSettings
from tasks.train.common import ANY_PIXEL_SCALE
from tasks.train.find_lenses import WIDTH
from tasks.train.finetune_objective import LossWeights, MultiTaskObjective
from tasks.train.pretexts import pretext_objective, tells_answers

TABLE, CLASSES = "trial", 5
"""The label table of the trials; how many classes it has hardly matters."""

SAMPLE = 8
"""Stamps that measures are standardised with; their values do not matter here."""

ARC = 12
"""Side of the square that stands for an arc, pixels."""


@dataclass(frozen=True)
class Trial:
    """One kind of step of a stage.

    Attributes
    ----------
    batch
        Makes a batch of so many stamps.
    part
        Stamps of such a step in units of the profile's `batch_size`.
    """

    objective: Objective
    batch: Callable[[int], dict[str, Any]]
    part: float = 1.0


def trials_of(stage: str, profile: Profile, stamp_size: int) -> list[Trial]:
    """The kinds of steps of a training stage, each as often as the others."""
    side = max(stamp_size, profile.pretrain.crop)
    return _TRIALS[stage](profile, side)


def settings_of(stage: str, profile: Profile) -> TrainingSettings:
    """The profile's section of a training stage."""
    return cast(TrainingSettings, getattr(profile, stage.replace("-", "_")))


def _pretrain(profile: Profile, side: int) -> list[Trial]:
    settings = profile.pretrain
    inputs = _inputs(profile, side)
    sample = inputs.to_network(_pictures(SAMPLE, side), "rgb")
    network = build_lvm(settings.preset, tells_answers(settings))
    simulated = SimulatedPictures(_pictures(SAMPLE, inputs.network_size), torch.full((SAMPLE, len(PLACES)), 0.5))
    objective = pretext_objective(network, inputs, "rgb", settings, None, sample, simulated)
    return [Trial(objective, lambda count: {"images": _pictures(count, side), "rows": torch.arange(count)})]


def _finetune(profile: Profile, side: int) -> list[Trial]:
    settings = profile.finetune
    names = tuple(f"class {number}" for number in range(CLASSES))
    lvm = build_lvm(profile.pretrain.preset, tells_answers(profile.pretrain))
    network = MultiTaskNetwork(lvm, [HeadScheme(TABLE, TABLE, "classes", names)])
    nothing = cast(Any, None)  # what only draws batches or validates
    weights = LossWeights(0.0, 0.0, 1.0, settings.mask_patch, settings.mask_fraction)
    inputs = _inputs(profile, side)
    objective = MultiTaskObjective(
        network, nothing, nothing, nothing, inputs, "rgb", Augmentation(), weights, 1, nothing
    )

    def labelled(count: int) -> dict[str, Any]:
        targets = {TABLE: {"code": torch.arange(count) % CLASSES}}
        return {"images": _pictures(count, side), "task": "classification", "targets": targets}

    def unlabelled(count: int) -> dict[str, Any]:
        return {"images": _pictures(count, side), "task": "reconstruction"}

    return [Trial(objective, labelled), Trial(objective, unlabelled, part=0.5)]


def _align(profile: Profile, side: int) -> list[Trial]:
    inputs = _inputs(profile, side)
    tower = LvmTower(build_lvm(profile.pretrain.preset))
    network = GalaxAlign(tower, profile.align.embedding_size, {TABLE: known_symbols()[:CLASSES]})

    def to_rgb(stamps: Tensor, generator: torch.Generator) -> Tensor:
        return augmented_input(stamps, "rgb", inputs, Augmentation(), generator)

    def batch(count: int) -> dict[str, Any]:
        return {"images": _pictures(count, side), "classes": torch.arange(count) % CLASSES, "table": TABLE}

    return [Trial(AlignObjective(network, 2, to_rgb, PairWeights()), batch)]


def _find_lenses(profile: Profile, side: int) -> list[Trial]:
    settings = profile.find_lenses
    side = max(side, settings.crop)
    inputs = InputSpec(("g", "r", "z"), side, settings.crop, 1, ANY_PIXEL_SCALE, True)
    finder = LensFinder(build_lvm(profile.pretrain.preset), proposals=settings.proposals, width=WIDTH)

    def batch(count: int) -> dict[str, Any]:
        lens = torch.arange(count) % 2 == 0
        masks = torch.zeros(count, side, side, dtype=torch.bool)
        middle = slice(side // 2 - ARC // 2, side // 2 + ARC // 2)
        masks[lens, middle, middle] = True
        stamps = _pictures(count, side).float() / 255
        return {"stamps": stamps, "masks": masks, "boxed": torch.ones(count, dtype=torch.bool), "lens": lens}

    return [Trial(LensObjective(finder, inputs, "rgb", Augmentation(), 1.0), batch)]


_TRIALS: Mapping[str, Callable[[Profile, int], list[Trial]]] = {
    "pretrain": _pretrain,
    "finetune": _finetune,
    "align": _align,
    "find-lenses": _find_lenses,
}


def _inputs(profile: Profile, side: int) -> InputSpec:
    settings = profile.pretrain
    return InputSpec(("g", "r", "z"), side, settings.crop, settings.binning, ANY_PIXEL_SCALE, True)


def _pictures(count: int, side: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
