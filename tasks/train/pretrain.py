"""Pre-training of the large vision model on all usable train stamps, without labels."""

from __future__ import annotations

from typing import Any

from galaxy_models.card import ModelCard
from galaxy_models.lvm import architecture
from galaxy_models.predictor import save_model
from tasks.stage import StageContext
from tasks.train.common import choose_device, code_version, weights_digest
from tasks.train.launch import check_gpus, train_in_processes
from tasks.train.pretexts import tells_answers
from tasks.train.pretrain_network import Pretraining, initial_network, open_pretraining, train_network
from tasks.train.pretrain_report import PretrainReport
from tasks.train.report_neighbours import report_neighbours
from tasks.train.report_reconstruction import report_reconstruction
from tasks.train.report_told import report_told
from tasks.train.report_views import report_views

MODEL_NAME = "galaxy-lvm"


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
        If there is no usable train stamp, crop, binning and mask do not fit the stamps, or processes the GPUs.
    """
    settings = context.profile.pretrain
    check_gpus("pretrain", settings.processes)
    device = choose_device(context.profile.threads)
    pretraining = open_pretraining(context)
    if settings.processes > 1:
        train_in_processes(context, "pretrain", settings.processes)
    history = train_network(context, pretraining)  # after several processes, this takes up their last checkpoint
    prepared, inputs, network = pretraining.prepared, pretraining.inputs, pretraining.network
    context.progress(pretraining.steps, pretraining.steps, "measuring on stamps it never saw")
    report = PretrainReport(prepared, inputs, settings, context.survey, context.folder / "figures", device)
    untrained = initial_network(prepared, pretraining.rows, inputs, settings)
    if "masked" in settings.pretexts:  # nothing else teaches the decoder
        report_reconstruction(report, network)
    if set(settings.pretexts) != {"masked"}:
        report_views(report, network, untrained)
    if tells_answers(settings):
        report_told(report, network)
    report_neighbours(report, network, untrained)
    report.loss_curve(history)
    return _result(context, pretraining, report)


def _result(context: StageContext, pretraining: Pretraining, report: PretrainReport) -> dict[str, Any]:
    settings = context.profile.pretrain
    prepared, rows, network = pretraining.prepared, pretraining.rows, pretraining.network
    survey = None if pretraining.observation is None else pretraining.observation.survey
    card = ModelCard(
        name=MODEL_NAME,
        architecture={"kind": "lvm", **architecture(network)},
        inputs=pretraining.inputs,
        training_data={
            "survey": context.survey.name,
            "prepared_digest": prepared.digest,
            "dataset_digest": prepared.dataset.digest,
            "split": "train",
            "stamps": len(rows),
            "pretexts": dict(settings.pretexts),
            "simulated_pictures": settings.simulated_pictures if tells_answers(settings) else 0,
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
            "steps": str(pretraining.steps),
            "train_stamps": str(len(rows)),
            "network_parameters": str(sum(p.numel() for p in network.parameters())),
        },
        "evaluation": report.evaluation(context.folder),
    }
