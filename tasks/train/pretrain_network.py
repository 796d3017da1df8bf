"""The training of the large vision model by itself, which one process does, or each of several."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.pretraining import measure_rgb
from galaxy_models.reobserve import Reobservation
from galaxy_models.simulated_answers import SimulatedPictures
from galaxy_models.training import History, fit, step_seed
from infra.profile import PretrainSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.common import Rows, input_spec, open_prepared, sample_stamps, training_options
from tasks.train.observed import reobservation
from tasks.train.pretexts import AUGMENTATION, check_mask, pretext_objective, tells_answers
from tasks.train.simulated_pictures import simulated_pictures
from tasks.train.stamp_batches import stamp_batches

STATISTICS_STAMPS = 1024


@dataclass(frozen=True)
class Pretraining:
    """What is trained on what, the same in every process; `network` is untrained at first."""

    prepared: PreparedDataset
    rows: Rows
    inputs: InputSpec
    network: GalaxyLVM
    observation: Reobservation | None
    pictures: SimulatedPictures | None
    steps: int


def open_pretraining(context: StageContext) -> Pretraining:
    """Read the prepared dataset and make the network.

    Raises
    ------
    GalaxyError
        If there is no usable train stamp, or crop, binning and mask do not fit the stamps.
    """
    settings = context.profile.pretrain
    prepared = open_prepared(context)
    rows = prepared.rows("train")
    inputs = input_spec(
        context.survey, prepared.table, rows, settings.crop, settings.binning, resize=AUGMENTATION.resize
    )
    check_mask(settings, inputs)
    network = initial_network(prepared, rows, inputs, settings)
    observation = reobservation(prepared, rows) if settings.reobserve else None
    pictures = None
    if tells_answers(settings):
        pictures = simulated_pictures(
            context.folder / "simulated",
            settings.simulated_pictures,
            inputs.network_size,
            context.profile.threads,
            context.progress,
        )
    return Pretraining(prepared, rows, inputs, network, observation, pictures, settings.steps(len(rows)))


def train_network(context: StageContext, pretraining: Pretraining) -> History:
    """Train the network in place, from the stage's checkpoint if there is one; see `fit`."""
    settings, prepared = context.profile.pretrain, pretraining.prepared
    inputs, units = pretraining.inputs, prepared.dataset.units
    sample = inputs.to_network(sample_stamps(prepared, pretraining.rows, STATISTICS_STAMPS), units)
    objective = pretext_objective(
        pretraining.network, inputs, units, settings, pretraining.observation, sample, pretraining.pictures
    )
    return fit(
        objective,
        lambda first: stamp_batches(prepared.dataset.root, pretraining.rows, settings, first),
        steps=pretraining.steps,
        folder=context.folder / "training",
        **training_options(context, settings, prepared),
    )


def initial_network(prepared: PreparedDataset, rows: Rows, inputs: InputSpec, settings: PretrainSettings) -> GalaxyLVM:
    """The untrained network: weights from the seed, RGB statistics measured on train stamps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -1))
        network = build_lvm(settings.preset, tells_answers(settings))
    measure_rgb(network, inputs.to_network(sample_stamps(prepared, rows, STATISTICS_STAMPS), prepared.dataset.units))
    return network
