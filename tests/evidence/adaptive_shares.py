"""Does it pay to give a weak task more of the training? Adaptive against equal shares, on real galaxies.

The product's own multi-task objective is trained from the same pre-trained encoder with the same new heads, the same
steps and the same seeds, once with `adaptive` and once with `equal` shares: classification (Galaxy Zoo 2 classes and
votes, EFIGI types, rings), parameters (EFIGI stage and attributes), restoration and reconstruction in display space.
Splits are the survey's own; shares follow validation stamps, figures are of test stamps.

A task's score is the product's (`validation_scores`): 0 is the answer that needs no network, 1 a perfect one. The worst
task of a run is that with the lowest test score, whichever it is. This was laid down before the first result. Of the
middle size, length and averaging were chosen after one: in 240 steps without an average the scatter of single runs hid
what the shares do. Both kinds were then lengthened alike, looking at seeds from 200 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats

from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.training import fit
from infra.profile import FinetuneSettings, PretrainSettings, load_profile
from tasks.figures import DOTS_PER_INCH
from tasks.ingest.survey import load_survey
from tasks.train.common import Rows, evenly
from tasks.train.degraded_pairs import degraded_pairs
from tasks.train.finetune_network import make_objective, new_network
from tasks.train.finetune_scores import Scorer, validation_scores
from tasks.train.label_tables import LabelledStamps, labelled_stamps
from tasks.train.pretexts import pretext_objective
from tasks.train.working_copy import WorkingCopy
from tests.evidence.stamps import INPUTS, PROFILE, SURVEY, Stamps, real_stamps
from tests.evidence.workbench import Workbench

TASKS = ("classification", "parameters", "restoration", "reconstruction")
KINDS = ("adaptive", "equal")


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes
    ----------
    seeds
        Of heads, batches and draws; none of them was used to tune the shares.
    steps, evaluate_steps
        Of a training, and between validations.
    validation_stamps, test_stamps
        Most stamps of a table, and of restoration and reconstruction, in one scoring.
    pretext_steps
        Steps in which the common encoder learns to tell measures of a stamp, without labels.
    binning
        Pixels of the stamp that are one for the network: 2 makes 32 px of 64, at a fourth of the cost.
    ema_decay
        Of the moving average of the weights that is validated and tested: its scores scatter less than the last step's.
    """

    seeds: tuple[int, ...]
    steps: int = 480
    evaluate_steps: int = 40
    validation_stamps: int = 96
    test_stamps: int = 512
    pretext_steps: int = 200
    binning: int = 2
    ema_decay: float = 0.98

    @property
    def inputs(self) -> InputSpec:
        """What the network sees."""
        return replace(INPUTS, binning=self.binning)


MIDDLE = Size(seeds=tuple(range(100, 110)))
SIZES = {
    "small": MIDDLE,  # of fewer seeds the interval says nothing
    "middle": MIDDLE,
    "full": replace(MIDDLE, steps=2800, evaluate_steps=100, validation_stamps=128, pretext_steps=1200, binning=1),
}


@dataclass(frozen=True)
class Material:
    """What all trainings share.

    Attributes
    ----------
    images
        Split to rows of restoration and reconstruction.
    encoder
        The common start; copied for each training.
    """

    scorer: Scorer
    tables: tuple[LabelledStamps, ...]
    images: Mapping[str, Rows]
    encoder: GalaxyLVM


def run(bench: Workbench) -> None:
    """Train both kinds with each seed, compare them seed by seed."""
    size = SIZES[bench.size]

    @cache
    def material() -> Material:
        return gather(real_stamps(), size, bench.folder / f"pretext-{size.inputs.network_size}-{size.pretext_steps}")

    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for seed in size.seeds:
        for kind in KINDS:
            measure = partial(lambda *what: train(material(), size, *what), kind, seed)
            results[kind].append(bench.cell(measure, kind=kind, seed=seed, **_key(size)))
    scores = {kind: [result["test"] for result in results[kind]] for kind in KINDS}
    _table(bench, size, scores)
    save_shares(bench.picture("adaptive_shares.png"), [result["history"] for result in results["adaptive"]])
    worst = paired(*([worst_task(each) for each in scores[kind]] for kind in KINDS))
    bench.report(
        "adaptive_vs_equal", worst.low, "worst task's score, lower end of the 95 % interval", "> 0", worst.low > 0
    )


def gather(stamps: Stamps, size: Size, folder: Path) -> Material:
    """Tables, rows and the pre-trained encoder; `folder` keeps its training."""
    settings, inputs = _settings(size), size.inputs
    copy = WorkingCopy(np.arange(len(stamps.images)), stamps.images)
    pairs = degraded_pairs(inputs, "rgb", inputs.bands, stamps.table)
    images = {split: np.flatnonzero(stamps.table["split"] == split) for split in ("train", "validation", "test")}
    images["train"] = evenly(images["train"], settings.image_stamps)
    return Material(
        Scorer(inputs, "rgb", copy, pairs, settings.mask_patch, settings.mask_fraction),
        tuple(labelled_stamps(load_survey(SURVEY), stamps.table)),
        images,
        pretrained(copy, images["train"], size, folder),
    )


def pretrained(copy: WorkingCopy, rows: Rows, size: Size, folder: Path) -> GalaxyLVM:
    """An encoder that has learnt to tell a stamp's measures (`galaxy_models/measured.py`) on train stamps."""
    inputs = size.inputs
    settings = PretrainSettings(pretexts={"measures": 1.0}, batch_size=32, crop=inputs.crop, binning=inputs.binning)
    sample = inputs.to_network(copy.read(evenly(rows, 512)), "rgb")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_lvm("nano")
    encoder.set_rgb_statistics(sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))
    objective = pretext_objective(encoder, inputs, "rgb", settings, None, sample)

    def batches(start: int) -> Any:
        for step in range(start, size.pretext_steps):
            chosen = np.random.default_rng([0, step]).choice(rows, settings.batch_size)
            yield {"images": copy.read(chosen), "rows": torch.from_numpy(chosen)}

    fit(
        objective,
        batches,
        steps=size.pretext_steps,
        folder=folder,
        checkpoint_steps=100,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=0,
        threads=torch.get_num_threads(),
    )
    return encoder.requires_grad_(True)


def train(material: Material, size: Size, kind: str, seed: int, **changes: Any) -> dict[str, Any]:
    """One training with one kind of shares.

    Parameters
    ----------
    changes
        Of the profile's section [finetune].

    Returns
    -------
    dict
        `test`, task to score on test stamps; `history`, the points at which shares were set.
    """
    settings = _settings(size).model_copy(
        update={
            "seed": seed,
            "shares": kind,
            "evaluate_steps": size.evaluate_steps if kind == "adaptive" else size.steps,
            "validation_stamps": size.validation_stamps,
            **changes,
        }
    )
    network = new_network(deepcopy(material.encoder), material.tables, seed)
    objective = make_objective(network, material.tables, material.images, material.scorer, settings)
    with TemporaryDirectory() as folder:
        history = fit(
            objective,
            objective.batches_from,
            steps=size.steps,
            folder=Path(folder),
            checkpoint_steps=size.steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            seed=seed,
            threads=torch.get_num_threads(),
            ema_decay=size.ema_decay,
        )
    network.eval()
    tested = [(table, evenly(table.positions("test"), size.test_stamps)) for table in material.tables]
    with torch.inference_mode():
        scores = validation_scores(material.scorer, network, tested, evenly(material.images["test"], size.test_stamps))
    return {"test": scores, "history": [point for point in history if f"share.{TASKS[0]}" in point]}


@dataclass(frozen=True)
class Paired:
    """Mean difference over seeds, with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """As in a table."""
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """First less second, seed by seed."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean, error = float(difference.mean()), float(stats.sem(difference))
    margin = float(stats.t.ppf(0.975, len(difference) - 1)) * error
    return Paired(mean, mean - margin, mean + margin)


def save_shares(path: Path, histories: Sequence[Sequence[Mapping[str, float]]]) -> Path:
    """Share, validation score and deficit of each task over the training: the mean of all seeds, and their range."""
    figure = Figure(figsize=(10.5, 3.4), dpi=DOTS_PER_INCH, layout="constrained")
    kinds = {"share": "share of the steps", "validation": "validation score", "deficit": "deficit"}
    for axes, (kind, label) in zip(figure.subplots(1, 3), kinds.items(), strict=True):
        for place, task in enumerate(TASKS):
            steps = [point["step"] + 1 for point in histories[0]]
            values = np.array([[point[f"{kind}.{task}"] for point in history] for history in histories])
            axes.plot(steps, values.mean(axis=0), color=f"C{place}", label=task)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=f"C{place}", alpha=0.15, linewidth=0)
        axes.set(xlabel="step", ylabel=label, ylim=(0, None))
    figure.axes[0].axhline(1 / len(TASKS), color="grey", linewidth=0.8, linestyle="--")
    figure.axes[0].legend(fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    return path


def worst_task(scores: Mapping[str, float]) -> float:
    """The lowest score, of whichever task."""
    return min(scores.values())


def mean_task(scores: Mapping[str, float]) -> float:
    """The mean score."""
    return float(np.mean(list(scores.values())))


def _table(bench: Workbench, size: Size, scores: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    measures: dict[str, Callable[[Mapping[str, float]], float]] = {task: itemgetter(task) for task in TASKS}
    measures |= {"mean of the tasks": mean_task, "worst task": worst_task}
    rows = []
    for name, measure in measures.items():
        values = [[measure(each) for each in scores[kind]] for kind in KINDS]
        rows.append([name, *(f"{np.mean(column):.3f}" for column in values), str(paired(*values))])
    worst = [", ".join(sorted({min(each, key=each.__getitem__) for each in scores[kind]})) for kind in KINDS]
    bench.table(
        f"Adaptive against equal shares, {size.steps} steps",
        ["score on test stamps", *KINDS, "paired difference (95 %)"],
        rows,
        f"Survey `{SURVEY}`, its own split; {len(size.seeds)} seeds, {size.seeds[0]} to {size.seeds[-1]}; {size.steps} "
        f"steps of 32 stamps at {size.inputs.network_size} px, all from one pre-trained `nano` encoder; weights are "
        f"averaged (decay {size.ema_decay}, which profiles do not by default). Scores: 0 is "
        "the answer that needs no network, 1 a perfect one. Intervals: Student's t over seeds. The worst task was "
        f"{worst[0]} with adaptive and {worst[1]} with equal shares.",
    )


def _settings(size: Size) -> FinetuneSettings:
    """The profile's, masks as large on the sky as there."""
    settings = load_profile(PROFILE).finetune
    return settings.model_copy(update={"mask_patch": settings.mask_patch // size.binning})


def _key(size: Size) -> dict[str, Any]:
    return {name: value for name, value in asdict(size).items() if name != "seeds"}
