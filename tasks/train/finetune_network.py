"""The multi-task fine-tuning by itself, which one process does, or each of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from galaxy_models.aperture_photometry import decentred_looks
from galaxy_models.augment import Augmentation
from galaxy_models.card import ModelCard
from galaxy_models.heads import ParameterHead
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.multitask import DISPLAY, MultiTaskNetwork
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.predictor import load_network
from galaxy_models.shares import TaskShares
from galaxy_models.training import History, fit, step_seed
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings
from tasks.preprocess.prepared import PreparedDataset
from tasks.stage import StageContext
from tasks.train.common import Rows, evenly, input_spec, open_prepared, training_options
from tasks.train.degraded_pairs import degraded_pairs
from tasks.train.finetune_batches import BatchDrawer, label_groups
from tasks.train.finetune_evaluation import first_tested
from tasks.train.finetune_objective import LossWeights, MultiTaskObjective
from tasks.train.finetune_scores import BATCH, Scorer, validation_scores
from tasks.train.label_tables import LabelledStamps, labelled_stamps
from tasks.train.working_copy import make_working_copy

WORKING_COPY = "working-copy.npy"

PHOTOMETRY_STAMPS = 4096
"""Of each table, from which a head learns photometry before the training."""


@dataclass(frozen=True)
class Finetuning:
    """What is trained on what, the same in every process.

    Attributes
    ----------
    tables
        All label tables of the survey that teach or test anything.
    judged_by
        The one that versions of the model are compared by.
    images
        Stamps of restoration and reconstruction by split.
    objective
        Has the network, which is as it was pre-trained, with new heads, at first.
    """

    prepared: PreparedDataset
    inputs: InputSpec
    tables: tuple[LabelledStamps, ...]
    judged_by: LabelledStamps
    images: Mapping[str, Rows]
    scorer: Scorer
    objective: MultiTaskObjective
    steps: int

    @property
    def network(self) -> MultiTaskNetwork:
        """What is trained."""
        return self.objective.network


def open_finetuning(context: StageContext) -> Finetuning:
    """Read the prepared dataset and its labels, copy the stamps that are drawn, and make the network.

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
    judged_by = first_tested(tables)
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
    objective = make_objective(network, tables, images, scorer, settings)
    steps = settings.steps(len(labelled))
    return Finetuning(prepared, inputs, tuple(tables), judged_by, images, scorer, objective, steps)


def train_network(context: StageContext, finetuning: Finetuning) -> History:
    """Train the network in place, from the stage's checkpoint if there is one; see `fit`."""
    return fit(
        finetuning.objective,
        finetuning.objective.batches_from,
        steps=finetuning.steps,
        folder=context.folder / "training",
        **training_options(context, context.profile.finetune, finetuning.prepared),
    )


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
    with torch.random.fork_rng(devices=[]):
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
