"""Pre-training of the large vision model on all usable train stamps, without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, architecture, build_lvm
from galaxy_models.predictor import save_model
from galaxy_models.pretraining import measure_rgb
from galaxy_models.survey_statistics import SurveyStatistics
from galaxy_models.training import fit, step_seed
from infra.profile import PretrainSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.stamps.loader import StampBatches
from tasks.train.common import (
    Rows,
    choose_device,
    code_version,
    input_spec,
    open_prepared,
    sample_stamps,
    weights_digest,
)
from tasks.train.observed import reobservation
from tasks.train.pretexts import AUGMENTATION, check_mask, pretext_objective
from tasks.train.pretrain_report import PretrainReport

MODEL_NAME = "galaxy-lvm"
STATISTICS_STAMPS = 1024


def pretrain(context: StageContext) -> dict[str, Any]:
    """Train the large vision model without labels, and measure what it learnt on stamps it never saw.

    Parameters
    ----------
    context
        With the result of `preprocess` upstream.

    Returns
    -------
    dict
        `model`, `weights_digest`, `metrics`, `headline`, `figures`, `parameters` and `evaluation`, as every training
        stage returns them.

    Raises
    ------
    GalaxyError
        If there is no usable train stamp, or crop, binning and mask do not fit the stamps.
    """
    settings = context.profile.pretrain
    device = choose_device(context.profile.threads)
    prepared = open_prepared(context)
    rows = prepared.rows("train")
    inputs = input_spec(
        context.survey, prepared.table, rows, settings.crop, settings.binning, resize=AUGMENTATION.resize
    )
    check_mask(settings, inputs)
    network = initial_network(prepared, rows, inputs, settings)
    steps = settings.steps(len(rows))
    units = prepared.dataset.units
    observation = reobservation(prepared, rows) if settings.reobserve else None
    sample = inputs.to_network(sample_stamps(prepared, rows, STATISTICS_STAMPS), units)
    objective = pretext_objective(network, inputs, units, settings, observation, sample)

    def batches_from(step: int) -> Iterable[dict[str, Any]]:
        return StampBatches(prepared.dataset.root, rows, settings.batch_size, settings.seed, start_batch=step)

    history = fit(
        objective,
        batches_from,
        steps=steps,
        folder=context.folder / "training",
        checkpoint_steps=settings.checkpoint_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        progress=context.progress,
        record=context.record,
        threads=context.profile.threads,
    )
    context.progress(steps, steps, "measuring on stamps it never saw")
    report = PretrainReport(prepared, inputs, settings, context.survey, context.folder / "figures", device)
    untrained = initial_network(prepared, rows, inputs, settings)
    if "masked" in settings.pretexts:  # nothing else teaches the decoder
        report.reconstruction(network)
    if set(settings.pretexts) != {"masked"}:
        report.views(network, untrained)
    report.neighbours(network, untrained)
    report.loss_curve(history)
    survey = None if observation is None else observation.survey
    return _result(context, prepared, rows, inputs, network, report, steps, survey)


def initial_network(prepared: PreparedDataset, rows: Rows, inputs: InputSpec, settings: PretrainSettings) -> GalaxyLVM:
    """The untrained network: weights from the seed, RGB statistics measured on train stamps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -1))
        network = build_lvm(settings.preset)
    measure_rgb(network, inputs.to_network(sample_stamps(prepared, rows, STATISTICS_STAMPS), prepared.dataset.units))
    return network


def _result(
    context: StageContext,
    prepared: PreparedDataset,
    rows: Rows,
    inputs: InputSpec,
    network: GalaxyLVM,
    report: PretrainReport,
    steps: int,
    survey: SurveyStatistics | None,
) -> dict[str, Any]:
    settings = context.profile.pretrain
    card = ModelCard(
        name=MODEL_NAME,
        architecture={"kind": "lvm", **architecture(network)},
        inputs=inputs,
        training_data={
            "survey": context.survey.name,
            "prepared_digest": prepared.digest,
            "dataset_digest": prepared.dataset.digest,
            "split": "train",
            "stamps": len(rows),
            "pretexts": dict(settings.pretexts),
            "normalise_target": settings.normalise_target and "masked" in settings.pretexts,
            # what seeing, noise and reddening were drawn from; null for pictures
            "survey_statistics": None if survey is None else survey.to_dict(),
        },
        metrics=report.metrics,
        code_version=code_version(),
    )
    model = context.folder / "model"
    save_model(model, card, network)
    parameters = {name: str(value) for name, value in settings.model_dump().items()}
    return {
        "model": str(model),
        "weights_digest": weights_digest(model),
        "metrics": report.metrics,
        "headline": report.headline,
        "figures": [str(path) for path in report.figures],
        "parameters": {
            **parameters,
            "steps": str(steps),
            "train_stamps": str(len(rows)),
            "network_parameters": str(sum(p.numel() for p in network.parameters())),
        },
        "evaluation": report.evaluation(context.folder),
    }
