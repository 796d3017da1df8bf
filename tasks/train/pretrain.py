"""Pre-training of the large vision model on all usable train stamps, without labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from galaxy_models.augment import Augmentation
from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import PATCH, GalaxyLVM, architecture, build_lvm
from galaxy_models.predictor import save_model
from galaxy_models.pretraining import MaskedReconstruction, measure_rgb
from galaxy_models.training import fit, step_seed
from infra.errors import GalaxyError
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
from tasks.train.pretrain_report import PretrainReport

MODEL_NAME = "galaxy-lvm"
STATISTICS_STAMPS = 1024
AUGMENTATION = Augmentation()


def pretrain(context: StageContext) -> dict[str, Any]:
    """Train the large vision model by masked reconstruction, and measure what it learnt on stamps it never saw.

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
    _check_mask(settings, inputs)
    network = initial_network(prepared, rows, inputs, settings)
    steps = settings.steps(len(rows))
    objective = MaskedReconstruction(
        network,
        inputs,
        prepared.dataset.units,
        mask_patch=settings.mask_patch,
        mask_fraction=settings.mask_fraction,
        augmentation=AUGMENTATION,
    )

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
    report.reconstruction(network)
    report.neighbours(network, initial_network(prepared, rows, inputs, settings))
    report.loss_curve(history)
    return _result(context, prepared, rows, inputs, network, report, steps)


def initial_network(prepared: PreparedDataset, rows: Rows, inputs: InputSpec, settings: PretrainSettings) -> GalaxyLVM:
    """The untrained network: weights from the seed, RGB statistics measured on train stamps."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -1))
        network = build_lvm(settings.preset)
    measure_rgb(network, inputs.to_network(sample_stamps(prepared, rows, STATISTICS_STAMPS), prepared.dataset.units))
    return network


def _check_mask(settings: PretrainSettings, inputs: InputSpec) -> None:
    if settings.mask_patch % PATCH or settings.mask_patch >= inputs.network_size:
        raise GalaxyError(
            f"profile, section [pretrain]: `mask_patch` is {settings.mask_patch}; it must be a multiple of {PATCH} "
            f"below crop / binning = {inputs.network_size} px"
        )


def _result(
    context: StageContext,
    prepared: PreparedDataset,
    rows: Rows,
    inputs: InputSpec,
    network: GalaxyLVM,
    report: PretrainReport,
    steps: int,
) -> dict[str, Any]:
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
        },
        metrics=report.metrics,
        code_version=code_version(),
    )
    model = context.folder / "model"
    save_model(model, card, network)
    parameters = {name: str(value) for name, value in context.profile.pretrain.model_dump().items()}
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
