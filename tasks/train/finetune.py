"""Multi-task fine-tuning: classification (with votes), parameters, restoration and reconstruction on one encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from galaxy_models.aperture_photometry import decentred_looks
from galaxy_models.augment import Augmentation
from galaxy_models.card import ModelCard
from galaxy_models.heads import ParameterHead
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.multitask import DISPLAY, SCALE_OF_PICTURES, MultiTaskNetwork, describe
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.predictor import load_network, save_model
from galaxy_models.shares import TaskShares
from galaxy_models.training import fit, step_seed
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.common import (
    Rows,
    code_version,
    evenly,
    input_spec,
    open_prepared,
    training_options,
    weights_digest,
    write_evaluation,
)
from tasks.train.degraded_pairs import degraded_pairs
from tasks.train.finetune_batches import BatchDrawer, label_groups
from tasks.train.finetune_evaluation import first_tested, headline_of, higher_is_better
from tasks.train.finetune_mix import keep_best_mix
from tasks.train.finetune_objective import LossWeights, MultiTaskObjective
from tasks.train.finetune_report import Report
from tasks.train.finetune_scores import BATCH, Scorer, calibrate, uncalibrated, validation_scores
from tasks.train.label_tables import LabelledStamps, labelled_stamps
from tasks.train.working_copy import discard_working_copy, make_working_copy

MODEL_NAME = "galaxy-morphology"
WORKING_COPY = "working-copy.npy"

PHOTOMETRY_STAMPS = 4096
"""Of each table, from which a head learns photometry before the training."""


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
        If no label table can teach anything or test it, or the settings do not fit the tasks.
    """
    settings = context.profile.finetune
    torch.set_num_threads(context.profile.threads)  # photometry is learnt before `fit` sets them
    prepared = open_prepared(context)
    base, lvm = load_network(Path(context.upstream["pretrain"]["model"]))
    inputs = _inputs(context, prepared, base)
    tables = [table.thinned(settings.working_stamps) for table in labelled_stamps(context.survey, prepared.table)]
    first = first_tested(tables)
    labelled = np.unique(np.concatenate([table.rows[table.positions("train")] for table in tables]))
    images = _image_rows(prepared, settings)
    everything = np.concatenate([*(table.rows for table in tables), *images.values()])
    copy = make_working_copy(context.folder / WORKING_COPY, prepared.dataset, everything, context.progress)

    units = prepared.dataset.units
    pairs = degraded_pairs(inputs, units, prepared.dataset.bands, prepared.table)
    scorer = Scorer(inputs, units, copy, pairs, settings.mask_patch, settings.mask_fraction)
    bands = len(inputs.bands) if units == "nanomaggy" else 0
    network = new_network(cast(GalaxyLVM, lvm), tables, settings.seed, pairs.space, bands)
    learn_photometry(network, tables, scorer, settings.seed)
    first_weights = {name: value.clone() for name, value in network.state_dict().items()}
    objective = make_objective(network, tables, images, scorer, settings)
    history = fit(
        objective,
        objective.batches_from,
        steps=settings.steps(len(labelled)),
        folder=context.folder / "training",
        **training_options(context, settings, prepared),
    )
    network.eval()
    with torch.inference_mode():
        kept = keep_best_mix(network, first_weights, settings.weight_mix, objective.validate_trained)
        network.calibration = _calibration(scorer, network, tables)
        report = Report(context.folder / "figures", scorer, network, tables, objective.drawer.tasks)
        report.heads()
        report.images(prepared.table, images["test"], first.scheme.source)
        report.curves(history)
    of_run = {"steps": str(settings.steps(len(labelled))), "kept_mix": f"{kept:g}"}
    result = _result(context, prepared, inputs, network, tables, first, report, of_run)
    discard_working_copy(context.folder / WORKING_COPY)
    return result


def _inputs(context: StageContext, prepared: PreparedDataset, base: ModelCard) -> InputSpec:
    """The geometry of the pre-trained network. A model that gives radii in arcsec takes their pixel scale alone."""
    resize = 0.0 if context.survey.tables("parameters") else context.profile.finetune.zoom
    crop, binning = base.inputs.crop, base.inputs.binning
    return input_spec(context.survey, prepared.table, prepared.rows("train"), crop, binning, resize)


def new_network(
    lvm: GalaxyLVM, tables: Sequence[LabelledStamps], seed: int, restores: str = DISPLAY, photometry_bands: int = 0
) -> MultiTaskNetwork:
    """The pre-trained network with new heads, whose weights depend on the seed alone."""
    schemes = [table.scheme for table in tables]
    with torch.random.fork_rng():
        torch.manual_seed(step_seed(seed, -1))
        network = MultiTaskNetwork(lvm, schemes, restores=restores, photometry_bands=photometry_bands)
    for table in tables:
        head = network.heads[table.scheme.table]
        if isinstance(head, ParameterHead):
            head.standardise(torch.from_numpy(table.targets["value"][table.positions("train")]))
    return network


def learn_photometry(network: MultiTaskNetwork, tables: Sequence[LabelledStamps], scorer: Scorer, seed: int) -> None:
    """Heads of parameters that see photometry begin with what it tells by itself; it takes seconds."""
    for table in tables:
        head = network.heads[table.scheme.table]
        if isinstance(head, PhotometricHead):
            train = evenly(table.positions("train"), PHOTOMETRY_STAMPS)
            generator = torch.Generator().manual_seed(step_seed(seed, -2))
            looks = decentred_looks(_fluxes(scorer, table.rows[train]), generator)
            head.learn_photometry(looks, torch.from_numpy(table.targets["value"][train]), generator)


def _fluxes(scorer: Scorer, rows: Rows) -> Iterator[torch.Tensor]:
    """Of stamps that have fluxes, some at a time."""
    for part in np.array_split(rows, max(1, len(rows) // BATCH)):
        fluxes = scorer.inputs.fluxes(scorer.copy.read(part), scorer.units)
        assert fluxes is not None, "a head reads photometry of pictures"
        yield fluxes


def make_objective(
    network: MultiTaskNetwork,
    tables: Sequence[LabelledStamps],
    images: Mapping[str, Rows],
    scorer: Scorer,
    settings: FinetuneSettings,
) -> MultiTaskObjective:
    """What `fit` trains: the batches of the tables and images, and the validation that moves the tasks' shares.

    Parameters
    ----------
    images
        Stamps of restoration and reconstruction, of the splits `train` and `validation`.

    Raises
    ------
    GalaxyError
        If the settings' shares do not fit the tasks.
    """
    groups = label_groups(tables, settings.supposed_votes, settings.class_balance)
    drawer = BatchDrawer(groups, images["train"], scorer.copy, settings.batch_size, settings.seed)
    watched = [(table, evenly(table.positions("validation"), settings.validation_stamps)) for table in tables]
    watched_images = evenly(images["validation"], settings.validation_stamps)
    return MultiTaskObjective(
        network,
        drawer,
        scorer.pairs,
        _shares(drawer.tasks, settings),
        scorer.inputs,
        scorer.units,
        _augmentation(settings),
        _loss_weights(settings),
        settings.evaluate_steps,
        lambda trained: validation_scores(scorer, trained, watched, watched_images),
    )


def _image_rows(prepared: PreparedDataset, settings: FinetuneSettings) -> dict[str, Rows]:
    """Stamps of restoration and reconstruction by split; they need no labels, so all sources give some."""
    most = {"train": settings.image_stamps, "validation": settings.validation_stamps}
    rows = {split: evenly(prepared.rows(split), count) for split, count in most.items()}
    per_source = [
        evenly(prepared.rows("test", source), settings.validation_stamps)
        for source in sorted(set(prepared.table["source"]))
    ]
    return rows | {"test": np.concatenate(per_source)}


def _shares(tasks: Sequence[str], settings: FinetuneSettings) -> TaskShares:
    try:
        return TaskShares(
            tasks,
            settings.shares,
            fixed=settings.fixed_shares,
            references=settings.reference_scores,
            floor=settings.share_floor,
            smoothing=settings.share_smoothing,
        )
    except ValueError as error:
        raise GalaxyError(f"profile, section [finetune]: {error}") from None


def _augmentation(settings: FinetuneSettings) -> Augmentation:
    return Augmentation(resize=settings.zoom)


def _loss_weights(settings: FinetuneSettings) -> LossWeights:
    return LossWeights(
        label_smoothing=settings.label_smoothing,
        votes=settings.votes_weight,
        encoder_rate=settings.encoder_rate,
        layer_decay=settings.layer_decay,
        mask_patch=settings.mask_patch,
        mask_fraction=settings.mask_fraction,
    )


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


def _result(
    context: StageContext,
    prepared: PreparedDataset,
    inputs: InputSpec,
    network: MultiTaskNetwork,
    tables: Sequence[LabelledStamps],
    first: LabelledStamps,
    report: Report,
    of_run: Mapping[str, str],
) -> dict[str, Any]:
    architecture, labels = describe(network)
    card = ModelCard(
        name=MODEL_NAME,
        architecture=architecture,
        inputs=inputs,
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
