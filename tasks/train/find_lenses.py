"""The lens finder: trained on arcs whose boxes are known and on real grades, scored on stamps it never saw."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from galaxy_models.augment import Augmentation
from galaxy_models.card import ModelCard
from galaxy_models.detection import LensFinder
from galaxy_models.inputs import InputSpec
from galaxy_models.lens_objective import LensObjective
from galaxy_models.lvm import GalaxyLVM, architecture
from galaxy_models.predictor import load_network, save_model
from galaxy_models.training import fit, step_seed
from infra.errors import GalaxyError
from infra.profile import FindLensesSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.common import (
    choose_device,
    code_version,
    evenly,
    input_spec,
    open_prepared,
    training_options,
    weights_digest,
    write_evaluation,
)
from tasks.train.lens_figures import arcs_sheet, lens_sheet, purity_curve
from tasks.train.lens_scenes import LensScenes, batches_from, collate
from tasks.train.lens_scores import Answers, ask, control_metrics, detection_metrics, ranking_metrics
from tasks.train.lens_tables import LensTable, Rows, lens_tables

MODEL_NAME = "galaxy-lens-finder"
AUGMENTATION = Augmentation(rotation=180.0, shift=3.0, resize=0.1, brightness=0.15, colour=0.05, noise=0.0)
WIDTH = 64
SCORE_ARCS = 200
INJECTED_WEIGHT = 0.5
"""Weight of all injected arcs together in the score, in units of the real lenses'."""

SHEET_SCENES = 20
TEST_SCENES_SEED = 1
"""Apart from the seed of training scenes, so that no arc of the test was ever learnt from."""


def find_lenses(context: StageContext) -> dict[str, Any]:
    """Train the lens finder from the pre-trained network, and measure it on each lens table's test stamps.

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
        If no label table feeds `lens`, one has too few lenses or others, or the crop does not fit the stamps.
    """
    settings = context.profile.find_lenses
    device = choose_device(context.profile.threads)
    prepared = open_prepared(context)
    tables = lens_tables(context.survey, prepared.table, prepared.dataset.stamp_size)
    _, lvm = load_network(Path(context.upstream["pretrain"]["model"]))
    # The finder goes over the whole survey, so it takes what the survey has, not only what the lens tables have.
    everything = np.arange(len(prepared.table))
    inputs = input_spec(context.survey, prepared.table, everything, settings.crop, 1, resize=AUGMENTATION.resize)
    context.progress(0, settings.steps, "drawing arcs")
    scenes = [_scenes(prepared, table, inputs, settings, "train", settings.seed) for table in tables]
    finder = initial_finder(cast(GalaxyLVM, lvm), scenes, inputs, prepared.dataset.units, settings)
    controls = [_controls(prepared, table, finder, inputs, settings) for table in tables]

    def batches(step: int) -> Iterable[dict[str, Any]]:
        return batches_from(scenes, settings.batch_size, settings.seed, step)

    fit(
        LensObjective(
            finder, inputs, prepared.dataset.units, AUGMENTATION, settings.encoder_rate, settings.layer_decay
        ),
        batches,
        steps=settings.steps,
        folder=context.folder / "training",
        **training_options(context, settings, prepared),
        bf16=device == "cuda",  # the region operators gain nothing from it on a CPU
    )
    fit_score(finder, scenes[0], inputs, prepared.dataset.units)
    finder.eval()
    context.progress(settings.steps, settings.steps, "scoring the test stamps")
    metrics: dict[str, float] = {}
    figures: list[Path] = []
    answered: list[Answers] = []
    for table, control in zip(tables, controls, strict=True):
        answers, more, drawn = _measure(context, prepared, table, finder, inputs)
        answered.append(answers)
        metrics |= more | control
        figures += drawn
    return _result(context, prepared, tables, answered[0], scenes, finder, inputs, metrics, figures)


def initial_finder(
    lvm: GalaxyLVM, scenes: list[LensScenes], inputs: InputSpec, units: str, settings: FindLensesSettings
) -> LensFinder:
    """The pre-trained encoder with new heads: weights from the seed, the score fitted, see `fit_score`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -1))
        finder = LensFinder(lvm, proposals=settings.proposals, width=WIDTH)
    fit_score(finder, scenes[0], inputs, units)
    return finder


def fit_score(finder: LensFinder, scenes: LensScenes, inputs: InputSpec, units: str) -> None:
    """Set the score to the exact solution for the encoder as it is, on one table's train lenses and others.

    Arcs put onto the others join the lenses: with a few dozen real lenses alone, the score learns what kind of galaxy
    people propose as a lens, and not that an arc makes it one. Tables are not pooled.
    """
    generator = np.random.default_rng([scenes.seed, len(scenes.other_stamps)])
    arcs = np.stack([scenes.injected(generator).stamp for _ in range(SCORE_ARCS)])
    parts = [_pooled(finder, inputs, units, stamps) for stamps in (scenes.lens_stamps, arcs, scenes.other_stamps)]
    counts = [len(part) for part in parts]
    weight = [1.0, INJECTED_WEIGHT * counts[0] / counts[1], 1.0]
    device = parts[0].device
    importance = torch.cat([torch.full((n,), w, device=device) for n, w in zip(counts, weight, strict=True)])
    lens = torch.arange(sum(counts), device=device) < counts[0] + counts[1]
    finder.score.fit(torch.cat(parts), lens, importance)


def _scenes(
    prepared: PreparedDataset,
    table: LensTable,
    inputs: InputSpec,
    settings: FindLensesSettings,
    split: str,
    seed: int,
) -> LensScenes:
    chosen = [evenly(table.chosen(split, lens), settings.working_stamps) for lens in (True, False)]
    lenses, others = ((rows, prepared.dataset.read_rows(rows)) for rows in chosen)
    try:
        return LensScenes(table, inputs, prepared.dataset.units, lenses, others, settings.simulated_lenses, seed)
    except ValueError as error:
        raise GalaxyError(f"label table {table.name}: {error}; no arcs can be put onto its stamps") from None


def _controls(
    prepared: PreparedDataset, table: LensTable, finder: LensFinder, inputs: InputSpec, settings: FindLensesSettings
) -> dict[str, float]:
    """What the background alone, and the encoder before this training, can tell; over all splits, cross-fitted."""
    keep = np.zeros(len(table.rows), dtype=bool)
    for lens in (True, False):
        places = np.flatnonzero(table.lens == lens)
        keep[evenly(places, settings.working_stamps)] = True
    units = prepared.dataset.units
    stamps = prepared.dataset.read_rows(table.rows[keep])
    whole = np.asarray(inputs.to_rgb(torch.from_numpy(stamps), units).numpy(), dtype=np.float32)
    features = _pooled(finder, inputs, units, stamps).cpu().numpy()
    return control_metrics(table.name, whole, features, table.lens[keep], table.groups[keep].tolist())


@torch.inference_mode()
def _pooled(finder: LensFinder, inputs: InputSpec, units: str, stamps: NDArray[Any]) -> torch.Tensor:
    """(N, F) features of the score for raw stamps, without augmentation."""
    finder.eval()
    device = next(finder.parameters()).device
    parts = (torch.from_numpy(stamps[start : start + 32]).to(device) for start in range(0, len(stamps), 32))
    return torch.cat([finder.pooled(inputs.to_network(part, units)) for part in parts]).clone()


def _measure(
    context: StageContext, prepared: PreparedDataset, table: LensTable, finder: LensFinder, inputs: InputSpec
) -> tuple[Answers, dict[str, float], list[Path]]:
    """Answers for the test stamps (in the order of `_test_rows`), metrics, and figures."""
    settings, units, folder = context.profile.find_lenses, prepared.dataset.units, context.folder / "figures"
    rows, positive = _test_rows(table)
    stamps = prepared.dataset.read_rows(rows)
    answers = ask(finder, inputs, units, stamps)
    metrics = ranking_metrics(table.name, positive, answers.score)

    held_out = _scenes(prepared, table, inputs, settings, "test", settings.seed + TEST_SCENES_SEED)
    generator = np.random.default_rng([settings.seed, TEST_SCENES_SEED])
    count = settings.test_scenes
    scenes = [held_out.injected(generator) if i < count // 2 else held_out.draw(generator, False) for i in range(count)]
    found = ask(finder, inputs, units, collate(scenes)["stamps"].numpy())
    metrics |= detection_metrics(f"{table.name}.simulated", found, scenes, inputs)

    shown = [held_out.injected(generator) for _ in range(SHEET_SCENES)]
    figures = [
        lens_sheet(
            folder / f"{table.name}-lenses.png",
            stamps,
            positive,
            answers,
            inputs,
            units,
            f"{table.name}: test stamps by lens score; box and outline of the arc found",
        ),
        purity_curve(
            folder / f"{table.name}-purity.png", positive, answers.score, f"{table.name}: {len(rows)} test stamps"
        ),
        arcs_sheet(
            folder / f"{table.name}-arcs.png",
            shown,
            inputs,
            units,
            f"{table.name}: arcs put onto galaxies, as they are and outlined",
        ),
        lens_sheet(
            folder / f"{table.name}-simulated.png",
            collate(scenes)["stamps"].numpy(),
            np.array([scene.lens for scene in scenes]),
            found,
            inputs,
            units,
            f"{table.name}: held-out galaxies, half of them with an arc put onto them, by lens score",
        ),
    ]
    return answers, metrics, figures


def _test_rows(table: LensTable) -> tuple[Rows, NDArray[np.bool_]]:
    """Catalogue rows of the test stamps, rising, and which are lenses."""
    chosen = table.split == "test"
    return table.rows[chosen], table.lens[chosen]


def _result(
    context: StageContext,
    prepared: PreparedDataset,
    tables: list[LensTable],
    answers: Answers,
    scenes: list[LensScenes],
    finder: LensFinder,
    inputs: InputSpec,
    metrics: dict[str, float],
    figures: list[Path],
) -> dict[str, Any]:
    settings = context.profile.find_lenses
    measured = {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
    training = {
        table.name: {
            "lenses": len(table.chosen("train", True)),
            "others": len(table.chosen("train", False)),
            "arcs": "flux" if prepared.dataset.units == "nanomaggy" else "display-space",
            "psf_fwhm_arcsec": round(drawn.psf_fwhm(inputs.bands[0]), 3),
        }
        for table, drawn in zip(tables, scenes, strict=True)
    }
    card = ModelCard(
        name=MODEL_NAME,
        architecture={
            "kind": "lens",
            "encoder": architecture(finder.encoder),
            "proposals": settings.proposals,
            "width": WIDTH,
        },
        inputs=inputs,
        training_data={
            "survey": context.survey.name,
            "prepared_digest": prepared.digest,
            "dataset_digest": prepared.dataset.digest,
            "split": "train",
            "tables": training,
        },
        metrics=measured,
        code_version=code_version(),
    )
    model = context.folder / "model"
    save_model(model, card, finder)
    headline = f"{tables[0].name}.auc"
    return {
        "model": str(model),
        "weights_digest": weights_digest(model),
        "metrics": measured,
        "headline": headline,
        "figures": [str(path) for path in figures],
        "parameters": {
            **{name: str(value) for name, value in settings.model_dump().items()},
            **{f"{name}.{key}": str(value) for name, content in training.items() for key, value in content.items()},
            "network_parameters": str(sum(p.numel() for p in finder.parameters())),
        },
        "evaluation": _evaluation(context, prepared, tables[0], answers, headline),
    }


def _evaluation(
    context: StageContext, prepared: PreparedDataset, table: LensTable, answers: Answers, metric: str
) -> dict[str, Any]:
    """The fixed evaluation set: the first lens table's test stamps."""
    rows, positive = _test_rows(table)
    scores = pd.DataFrame(
        {
            "object_id": prepared.table["object_id"].to_numpy(dtype=str)[rows],
            "label": np.where(positive, "lens", "no_lens"),
            "score": answers.score,
            "positive": positive,
        }
    )
    return write_evaluation(
        context.folder,
        scores.sort_values("object_id", ignore_index=True),
        metric,
        higher_is_better=True,
        digest_columns=("object_id", "label"),
    )
