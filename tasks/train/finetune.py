"""Multi-task fine-tuning: classification (with votes), parameters, restoration and reconstruction on one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from galaxy_models.card import ModelCard
from galaxy_models.multitask import SCALE_OF_PICTURES, MultiTaskNetwork, describe
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.predictor import save_model
from infra.profile import FinetuneSettings
from tasks.stage import StageContext
from tasks.train.common import code_version, weights_digest, write_evaluation
from tasks.train.finetune_evaluation import headline_of, higher_is_better
from tasks.train.finetune_mix import keep_best_mix
from tasks.train.finetune_network import WORKING_COPY, Finetuning, open_finetuning, train_network
from tasks.train.finetune_report import Report
from tasks.train.finetune_scores import Scorer, calibrate, uncalibrated
from tasks.train.label_tables import LabelledStamps
from tasks.train.launch import check_gpus, train_in_processes
from tasks.train.working_copy import discard_working_copy

MODEL_NAME = "galaxy-morphology"


def finetune(context: StageContext) -> dict[str, Any]:
    """Train the morphology model from the pre-trained network, calibrate it, and score it on test stamps.

    Parameters
    ----------
    context
        With the results of `preprocess` and `pretrain` upstream.

    Returns
    -------
    dict
        `model`, `weights_digest`, `metrics`, `headline`, `figures`, `parameters` and `evaluation`, as every training
        stage returns them.

    Raises
    ------
    GalaxyError
        If no label table can teach anything or test it, or the settings do not fit the tasks or the GPUs.
    """
    settings = context.profile.finetune
    check_gpus("finetune", settings.processes)
    finetuning = open_finetuning(context)
    network, tables, scorer = finetuning.network, finetuning.tables, finetuning.scorer
    first_weights = {name: value.clone() for name, value in network.state_dict().items()}
    if settings.processes > 1:
        train_in_processes(context, "finetune", settings.processes)
    history = train_network(context, finetuning)  # after several processes, this takes up their last checkpoint
    network.eval()
    with torch.inference_mode():
        kept = keep_best_mix(network, first_weights, settings.weight_mix, finetuning.objective.validate_trained)
        network.calibration = _calibration(scorer, network, tables)
        report = Report(context.folder / "figures", scorer, network, tables, finetuning.objective.drawer.tasks)
        report.heads()
        report.images(finetuning.prepared.table, finetuning.images["test"], finetuning.judged_by.scheme.source)
        report.curves(history)
    result = _result(context, finetuning, report, kept)
    discard_working_copy(context.folder / WORKING_COPY)
    return result


def _calibration(scorer: Scorer, network: MultiTaskNetwork, tables: Sequence[LabelledStamps]) -> dict[str, Any]:
    """By table; `validation_stamps` says how many it is from: of few, or none, it is as the network says it."""
    return {
        table.scheme.table: _calibrated(scorer, network, table)
        | {"validation_stamps": len(table.positions("validation"))}
        for table in tables
    }


def _calibrated(scorer: Scorer, network: MultiTaskNetwork, table: LabelledStamps) -> dict[str, Any]:
    positions = table.positions("validation")
    if not len(positions):
        return uncalibrated(table.scheme)
    targets = {name: values[positions] for name, values in table.targets.items()}
    seen = scorer.see(network, table.rows[positions])
    found = calibrate(table.scheme, scorer.answer(network, table, positions, seen), targets)
    if isinstance(network.heads[table.scheme.table], PhotometricHead):
        answer = scorer.answer(network, table, positions, seen.of_pictures())
        found[SCALE_OF_PICTURES] = calibrate(table.scheme, answer, targets)["sigma_scale"]
    return found


def _result(context: StageContext, finetuning: Finetuning, report: Report, kept_mix: float) -> dict[str, Any]:
    prepared, tables, network, first = finetuning.prepared, finetuning.tables, finetuning.network, finetuning.judged_by
    architecture, labels = describe(network)
    card = ModelCard(
        name=MODEL_NAME,
        architecture=architecture,
        inputs=finetuning.inputs,
        training_data={
            "survey": context.survey.name,
            "prepared_digest": prepared.digest,
            "dataset_digest": prepared.dataset.digest,
            "pretrained_digest": context.upstream["pretrain"]["weights_digest"],
            "split": "train",
            "stamps": {table.scheme.table: len(table.positions("train")) for table in tables},
        },
        labels=labels,
        calibration=network.calibration,
        metrics=report.metrics,
        code_version=code_version(),
    )
    model = context.folder / "model"
    save_model(model, card, network)
    headline = headline_of(first.scheme)
    of_run = {"steps": str(finetuning.steps), "kept_mix": f"{kept_mix:g}"}
    return {
        "model": str(model),
        "weights_digest": weights_digest(model),
        "metrics": report.metrics,
        "headline": headline,
        "figures": [str(path) for path in report.figures],
        "parameters": {**_parameters(context.profile.finetune, tables, report), **of_run},
        "evaluation": write_evaluation(
            context.folder,
            _evaluation_set(prepared.table, first, report),
            headline,
            higher_is_better=higher_is_better(first.scheme),
            digest_columns=("object_id", "label"),
        ),
    }


def _evaluation_set(catalogue: pd.DataFrame, first: LabelledStamps, report: Report) -> pd.DataFrame:
    """The test stamps of the table that the model is judged by, and what this version earned for each."""
    scores = report.evaluations[first.scheme.table]
    ids = catalogue["object_id"].to_numpy()[first.rows[first.positions("test")]]
    return scores.assign(object_id=ids).sort_values("object_id", ignore_index=True)


def _parameters(settings: FinetuneSettings, tables: Sequence[LabelledStamps], report: Report) -> dict[str, str]:
    flat = {name: _text(value) for name, value in settings.model_dump().items()}
    flat["tables"] = ", ".join(table.scheme.table for table in tables)
    flat["restoration_space"] = report.network.restores
    return flat


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={number:g}" for name, number in value.items())
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value)
    return str(value)
