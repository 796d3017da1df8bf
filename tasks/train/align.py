"""GalaxAlign: image, symbol and text encoders trained into one space in two stages, calibrated and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxy_models.align import GalaxAlign
from galaxy_models.align_objective import AlignObjective, PairWeights
from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.card import ModelCard
from galaxy_models.image_towers import ImageTowerError, LvmTower, OpenClipTower, load_open_clip_tower
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.predictor import load_network, save_model
from galaxy_models.training import fit, step_seed
from infra.errors import GalaxyError
from infra.profile import AlignSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.align_figures import save_neighbours, save_retrieval, save_symbols, save_table_confusion
from tasks.train.align_scores import (
    Embedder,
    choose_mixture,
    classification_metrics,
    retrieval_metrics,
    similarity_metrics,
)
from tasks.train.align_tables import ClassTable, TableBatches, class_tables
from tasks.train.common import code_version, open_prepared, training_options, weights_digest, write_evaluation
from tasks.train.working_copy import discard_working_copy, make_working_copy

MODEL_NAME = "galaxy-align"
WORKING_COPY = "working-copy.npy"


def align(context: StageContext) -> dict[str, Any]:
    """Train GalaxAlign from the pre-trained network, and score it on test stamps.

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
        If no class table can teach, a class has no symbol, or the image tower is not to be had.
    """
    settings = context.profile.align
    prepared = open_prepared(context)
    tables = [
        table.thinned(settings.working_stamps)
        for table in class_tables(context.survey, prepared.table, settings.minimum_class_images)
    ]
    copy = make_working_copy(
        context.folder / WORKING_COPY,
        prepared.dataset,
        np.concatenate([table.rows for table in tables]),
        context.progress,
    )
    base, lvm = load_network(Path(context.upstream["pretrain"]["model"]))
    network = _network(settings, cast(GalaxyLVM, lvm), tables)
    units = prepared.dataset.units
    batches = TableBatches(tables, copy, settings.batch_size, settings.seed)
    augmentation = Augmentation()

    def to_rgb(stamps: Tensor, generator: torch.Generator) -> Tensor:
        return augmented_input(stamps, units, base.inputs, augmentation, generator)

    plan = (settings.stage1_steps, settings.steps(batches.stamps))
    for stage in (1, 2):
        _train(context, prepared, network, batches, stage, plan, to_rgb)
    network.cpu().eval()
    network.update_prototypes()
    embedder = Embedder(network, base.inputs, units, copy)
    report = _report(context.folder / "figures", embedder, tables)
    first = next(table for table in tables if table.trained)
    scores = _evaluation_set(prepared.table, first, embedder)
    result = _result(context, prepared, base, network, tables, report, scores, plan)
    discard_working_copy(context.folder / WORKING_COPY)
    return result


def _network(settings: AlignSettings, lvm: GalaxyLVM, tables: Sequence[ClassTable]) -> GalaxAlign:
    """The network before training; what is not pre-trained depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -1))
        tower: LvmTower | OpenClipTower
        if settings.image_tower == "lvm":
            tower = LvmTower(lvm)
        else:
            if settings.layer_decay != 1:
                raise GalaxyError(
                    f"profile, section [align]: `layer_decay` is {settings.layer_decay}, but only the stages of the "
                    f"tower `lvm` are known, and `image_tower` is {settings.image_tower!r}; set one of them otherwise"
                )
            try:
                tower = load_open_clip_tower(settings.image_tower)
            except ImageTowerError as error:
                raise GalaxyError(f"profile, section [align]: {error}") from None
        return GalaxAlign(tower, settings.embedding_size, {t.name: t.classes for t in tables if t.trained})


def _train(
    context: StageContext,
    prepared: PreparedDataset,
    network: GalaxAlign,
    batches: TableBatches,
    stage: int,
    plan: tuple[int, int],
    to_rgb: Any,
) -> None:
    """One stage of the plan, the steps of both; its progress and metrics go on where the other's end."""
    settings = context.profile.align
    steps, before, both = plan[stage - 1], sum(plan[: stage - 1]), sum(plan)
    if not steps:
        return

    def progress(done: int, total: int, note: str = "") -> None:
        context.progress(before + done, both, f"stage {stage}, {note}")

    def record(step: int, metrics: Mapping[str, float]) -> None:
        context.record(before + step, {f"stage{stage}.{name}": value for name, value in metrics.items()})

    weights = PairWeights(settings.image_text, settings.image_symbol, settings.symbol_text)
    objective = AlignObjective(network, stage, to_rgb, weights, settings.image_rate, settings.layer_decay)
    own = {"seed": settings.seed + stage, "progress": progress, "record": record}
    fit(
        objective,
        lambda first: batches.batches_from(before * settings.accumulate + first),
        steps=steps,
        folder=context.folder / f"stage{stage}",
        **training_options(context, settings, prepared) | own,
    )
    objective.release()


def _report(
    folder: Path, embedder: Embedder, tables: Sequence[ClassTable]
) -> tuple[dict[str, float], list[Path], dict[str, Any]]:
    """Metrics, figures and calibration, table by table."""
    network = embedder.network
    metrics: dict[str, float] = {}
    calibration: dict[str, Any] = {}
    figures = [save_symbols(folder / "symbols.png")]
    for table in tables:
        if not table.trained:
            everything = embedder(table.rows)
            metrics |= retrieval_metrics(network, table, everything)
            path = folder / f"retrieval_{table.name}.png"
            figures.append(save_retrieval(path, embedder, table, everything, None))
            continue
        calibration[table.name] = choose_mixture(network, table, embedder(table.rows[table.places("validation")]))
        test = embedder(table.rows[table.places("test")])
        if not len(test):
            continue
        metrics |= classification_metrics(network, table, test) | similarity_metrics(table, test)
        metrics[f"{table.name}.text_share"] = calibration[table.name]["text_share"]
        figures += [
            save_table_confusion(folder / f"confusion_{table.name}.png", network, table, test),
            save_neighbours(folder / f"neighbours_{table.name}.png", embedder, table, test),
            save_retrieval(folder / f"retrieval_{table.name}.png", embedder, table, test, "test"),
        ]
    return metrics, figures, calibration


def _result(
    context: StageContext,
    prepared: PreparedDataset,
    base: ModelCard,
    network: GalaxAlign,
    tables: Sequence[ClassTable],
    report: tuple[dict[str, float], list[Path], dict[str, Any]],
    scores: pd.DataFrame,
    plan: tuple[int, int],
) -> dict[str, Any]:
    metrics, figures, calibration = report
    trained = [table for table in tables if table.trained]
    card = ModelCard(
        name=MODEL_NAME,
        architecture=network.describe(),
        inputs=base.inputs,
        training_data={
            "survey": context.survey.name,
            "prepared_digest": prepared.digest,
            "dataset_digest": prepared.dataset.digest,
            "pretrained_digest": context.upstream["pretrain"]["weights_digest"],
            "split": "train",
            "stamps": {table.name: len(table.places("train")) for table in trained},
        },
        labels={
            table.name: {
                "classes": table.classes,
                "symbols": table.meanings,
                "columns": network.class_columns(table.name),
            }
            for table in trained
        },
        calibration=calibration,
        metrics=metrics,
        code_version=code_version(),
    )
    model = context.folder / "model"
    save_model(model, card, network)
    headline = f"{trained[0].name}.accuracy"
    return {
        "model": str(model),
        "weights_digest": weights_digest(model),
        "metrics": metrics,
        "headline": headline,
        "figures": [str(path) for path in figures],
        "parameters": {
            **{name: str(value) for name, value in context.profile.align.model_dump().items()},
            "steps": str(sum(plan)),
            "tables": ", ".join(table.name for table in trained),
            "tables_tested_only": ", ".join(table.name for table in tables if not table.trained),
        },
        "evaluation": write_evaluation(
            context.folder,
            scores,
            headline,
            higher_is_better=True,
            digest_columns=("object_id", "label"),
        ),
    }


def _evaluation_set(catalog: pd.DataFrame, table: ClassTable, embedder: Embedder) -> pd.DataFrame:
    """The test stamps of the first table with their classes, and whether this version is right: 1 or 0."""
    test = table.places("test")
    guess = embedder.network.class_probabilities(embedder(table.rows[test]), table.name).argmax(dim=1).numpy()
    scores = pd.DataFrame(
        {
            "object_id": catalog["object_id"].to_numpy()[table.rows[test]],
            "label": pd.Categorical(np.array(table.classes)[table.codes[test]], categories=table.classes),
            "score": (guess == table.codes[test]).astype(np.float64),
        }
    )
    return scores.sort_values("object_id", ignore_index=True)
