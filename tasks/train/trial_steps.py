"""Each training stage's real networks and losses on made-up stamps: a few steps tell what the stage will cost.

Stamps come in the survey's units and bands, and fine-tuning has a trial for each task that the survey will train: a
restoration of fluxes costs several times what a classification does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
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
from galaxy_models.reobserve import Reobservation
from galaxy_models.shares import TaskShares
from galaxy_models.simulated_answers import SimulatedPictures
from galaxy_models.survey_statistics import SurveyStatistics
from galaxy_models.symbols import known_symbols
from galaxy_models.training import Objective
from galaxy_models.volunteer_answers import PLACES
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings, Profile, TrainingSettings
from tasks.ingest.survey import SurveyDefinition
from tasks.train.common import ANY_PIXEL_SCALE
from tasks.train.degraded_pairs import degraded_pairs
from tasks.train.find_lenses import WIDTH
from tasks.train.finetune_batches import IMAGE_TASKS
from tasks.train.finetune_objective import LossWeights, MultiTaskObjective
from tasks.train.observed import observed_conditions
from tasks.train.pretexts import pretext_objective, tells_answers

TABLE, CLASSES = "trial", 5
"""The label table of the trials; how many classes it has hardly matters."""

VALUES = "measured"
"""Their table of parameters."""

ROWS = 256
"""Of the catalogue that batches come from, which says nothing of how its stamps were observed."""

RADIUS, PEAK, NOISE = 6.0, 0.5, 0.01
"""Of a galaxy of fluxes: sigma in pixels, and nanomaggies."""

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
    name
        The task that it trains, where a stage has several.
    share
        Of the stage's steps; all trials' together are one.
    part
        Stamps of such a step in units of the profile's `batch_size`.
    looks
        Stamps that validations look at, without learning from them, for each stamp of the stage's steps.
    closing_looks
        Stamps that are looked at when all steps are done.
    """

    objective: Objective
    batch: Callable[[int], dict[str, Any]]
    name: str = ""
    share: float = 1.0
    part: float = 1.0
    looks: float = 0.0
    closing_looks: int = 0


def trials_of(stage: str, profile: Profile, survey: SurveyDefinition) -> list[Trial]:
    """The kinds of steps of a training stage.

    Raises
    ------
    GalaxyError
        If fine-tuning will not be able to share its steps among the survey's tasks, or to restore its bands.
    """
    return _TRIALS[stage](profile, survey)


def settings_of(stage: str, profile: Profile) -> TrainingSettings:
    """The profile's section of a training stage."""
    return cast(TrainingSettings, getattr(profile, stage.replace("-", "_")))


def shares_supposed(settings: FinetuneSettings, survey: SurveyDefinition) -> dict[str, float]:
    """Share of fine-tuning's steps that each of the survey's tasks gets: the fixed ones, else equal ones.

    Raises
    ------
    GalaxyError
        If fixed shares name other tasks than the survey's.
    """
    labelled = {
        "classification": [*survey.tables("classification"), *survey.tables("votes")],
        "parameters": survey.tables("parameters"),
    }
    tasks = [*(task for task, tables in labelled.items() if tables), *IMAGE_TASKS]
    try:
        return TaskShares(tasks, settings.shares, fixed=settings.fixed_shares).shares
    except ValueError as error:
        raise GalaxyError(f"profile, section [finetune], with survey {survey.name}: {error}") from None


def _pretrain(profile: Profile, survey: SurveyDefinition) -> list[Trial]:
    settings = profile.pretrain
    inputs = _inputs(profile, survey)
    sample = inputs.to_network(_stamps(SAMPLE, survey, inputs), survey.units)
    network = build_lvm(settings.preset, tells_answers(settings))
    pictures = torch.randint(0, 256, (SAMPLE, 3, inputs.network_size, inputs.network_size), dtype=torch.uint8)
    simulated = SimulatedPictures(pictures, torch.full((SAMPLE, len(PLACES)), 0.5))
    objective = pretext_objective(network, inputs, survey.units, settings, _reobservation(survey), sample, simulated)
    return [Trial(objective, lambda count: {"images": _stamps(count, survey, inputs), "rows": _rows(count)})]


def _reobservation(survey: SurveyDefinition) -> Reobservation | None:
    if survey.units == "rgb":
        return None
    own = observed_conditions(_catalogue(), survey.bands)
    return Reobservation(own, SurveyStatistics.measured(own, survey.bands))


def _finetune(profile: Profile, survey: SurveyDefinition) -> list[Trial]:
    settings = profile.finetune
    inputs = _inputs(profile, survey)
    shares = shares_supposed(settings, survey)
    pairs = degraded_pairs(inputs, survey.units, survey.bands, _catalogue())
    names = tuple(f"class {number}" for number in range(CLASSES))
    parameters = tuple(dict.fromkeys(name for table in survey.tables("parameters") for name in table.parameters))
    schemes = [HeadScheme(TABLE, TABLE, "classes", names)]
    schemes += [HeadScheme(VALUES, TABLE, "values", parameters)] if parameters else []
    lvm = build_lvm(profile.pretrain.preset, tells_answers(profile.pretrain))
    bands = len(inputs.bands) if survey.units == "nanomaggy" else 0
    network = MultiTaskNetwork(lvm, schemes, restores=pairs.space, photometry_bands=bands)
    nothing = cast(Any, None)  # what only draws batches or validates
    weights = LossWeights(0.0, 0.0, 1.0, settings.mask_patch, settings.mask_fraction)
    objective = MultiTaskObjective(
        network, nothing, pairs, nothing, inputs, survey.units, Augmentation(), weights, 1, nothing
    )

    def batches(task: str) -> Callable[[int], dict[str, Any]]:
        def batch(count: int) -> dict[str, Any]:
            targets = {
                "classification": {TABLE: {"code": torch.arange(count) % CLASSES}},
                "parameters": {VALUES: {"value": torch.rand(count, len(parameters))}},
            }
            stamps = {"images": _stamps(count, survey, inputs), "rows": _rows(count)}
            return {**stamps, "task": task, "targets": targets.get(task)}

        return batch

    validation = _validation(settings, survey)
    between = settings.evaluate_steps * settings.stamps_per_step
    mixes = len(settings.weight_mix) if len(settings.weight_mix) > 1 else 0  # a single one is kept unseen
    return [
        Trial(
            objective,
            batches(task),
            task,
            share,
            part=0.5 if task in IMAGE_TASKS else 1.0,
            looks=validation[task] / between,
            closing_looks=mixes * validation[task],
        )
        for task, share in shares.items()
    ]


def _validation(settings: FinetuneSettings, survey: SurveyDefinition) -> dict[str, int]:
    """Stamps of one validation by task; a source that has labels of two is looked at once."""
    measured = {table.source for table in survey.tables("parameters")}
    labelled = {table.source for task in ("classification", "votes") for table in survey.tables(task)}
    sets = {"classification": len(labelled - measured), "parameters": len(measured)} | dict.fromkeys(IMAGE_TASKS, 1)
    return {task: count * settings.validation_stamps for task, count in sets.items()}


def _align(profile: Profile, survey: SurveyDefinition) -> list[Trial]:
    inputs = _inputs(profile, survey)
    tower = LvmTower(build_lvm(profile.pretrain.preset))
    network = GalaxAlign(tower, profile.align.embedding_size, {TABLE: known_symbols()[:CLASSES]})

    def to_rgb(stamps: Tensor, generator: torch.Generator) -> Tensor:
        return augmented_input(stamps, survey.units, inputs, Augmentation(), generator)

    def batch(count: int) -> dict[str, Any]:
        return {"images": _stamps(count, survey, inputs), "classes": torch.arange(count) % CLASSES, "table": TABLE}

    return [Trial(AlignObjective(network, 2, to_rgb, PairWeights()), batch)]


def _find_lenses(profile: Profile, survey: SurveyDefinition) -> list[Trial]:
    settings = profile.find_lenses
    side = max(_inputs(profile, survey).stamp_size, settings.crop)
    inputs = InputSpec(_bands(survey), side, settings.crop, 1, ANY_PIXEL_SCALE, True)
    finder = LensFinder(build_lvm(profile.pretrain.preset), proposals=settings.proposals, width=WIDTH)

    def batch(count: int) -> dict[str, Any]:
        lens = torch.arange(count) % 2 == 0
        masks = torch.zeros(count, side, side, dtype=torch.bool)
        middle = slice(side // 2 - ARC // 2, side // 2 + ARC // 2)
        masks[lens, middle, middle] = True
        stamps = _stamps(count, survey, inputs)
        stamps = stamps.float() / 255 if survey.units == "rgb" else stamps.float()
        return {"stamps": stamps, "masks": masks, "boxed": torch.ones(count, dtype=torch.bool), "lens": lens}

    return [Trial(LensObjective(finder, inputs, survey.units, Augmentation(), 1.0), batch)]


_TRIALS: Mapping[str, Callable[[Profile, SurveyDefinition], list[Trial]]] = {
    "pretrain": _pretrain,
    "finetune": _finetune,
    "align": _align,
    "find-lenses": _find_lenses,
}


def _inputs(profile: Profile, survey: SurveyDefinition) -> InputSpec:
    settings = profile.pretrain
    side = max(survey.stamp_size, settings.crop)
    return InputSpec(_bands(survey), side, settings.crop, settings.binning, ANY_PIXEL_SCALE, True)


def _bands(survey: SurveyDefinition) -> tuple[str, ...]:
    return ("g", "r", "z") if survey.units == "rgb" else tuple(survey.bands)


def _catalogue() -> pd.DataFrame:
    return pd.DataFrame(index=range(ROWS))


def _rows(count: int) -> Tensor:
    return torch.arange(count) % ROWS


def _stamps(count: int, survey: SurveyDefinition, inputs: InputSpec) -> Tensor:
    """(count, C, H, H) as the store keeps them: noise in pictures, a galaxy on noise in fluxes."""
    shape = (count, len(survey.bands), inputs.stamp_size, inputs.stamp_size)
    if survey.units == "rgb":
        return torch.randint(0, 256, shape, dtype=torch.uint8)
    along = torch.exp(-0.5 * ((torch.arange(inputs.stamp_size) - inputs.stamp_size / 2) / RADIUS) ** 2)
    return (PEAK * along[:, None] * along + NOISE * torch.randn(shape)).half()
