"""How fast a search finds its kind of galaxy, against other ways of asking and on other features.

The learner's numbers were chosen on seeds from 100 on; the seeds reported here, from 0 on, had no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from infra.profile import AlignSettings
from tests.evidence import cross_fit_sizes
from tests.evidence.classifiers import Recipe
from tests.evidence.cross_fit import THREADS, CrossFit
from tests.evidence.cross_fit_sizes import BACKBONE
from tests.evidence.pretrained import Pretraining
from tests.evidence.processes import in_processes
from tests.evidence.search_ceiling import ALL_LABELS, taught_all
from tests.evidence.search_efficiency import Training, resnet, split
from tests.evidence.search_features import (
    ALIGN,
    ALIGNED_SOURCE,
    LVM,
    RESNET,
    FeatureMaker,
    FeatureSize,
    Vectors,
)
from tests.evidence.search_loop import search
from tests.evidence.search_report import Results, write
from tests.evidence.search_simulated import SOURCE as SIMULATED
from tests.evidence.search_simulated import simulated_stamps, simulated_targets
from tests.evidence.search_strategies import NOBODY, OURS, STRATEGIES
from tests.evidence.search_targets import Target, large, real_targets
from tests.evidence.simulated import simulator_digest
from tests.evidence.stamps import Stamps, real_stamps
from tests.evidence.workbench import Workbench

ERROR = 0.05
"""Share of wrong answers of the annotator who errs."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes
    ----------
    seeds, fewer_seeds
        Searches of each kind; of those by an annotator who errs, and on other features, which take fewer.
    simulated
        Simulated galaxies that the rare kinds are searched among.
    """

    seeds: int
    fewer_seeds: int
    simulated: int
    fit: cross_fit_sizes.Size
    features: FeatureSize
    training: Training


MIDDLE = Size(
    seeds=10,
    fewer_seeds=5,
    simulated=20_000,
    fit=cross_fit_sizes.MIDDLE,
    features=FeatureSize(
        replace(cross_fit_sizes.MIDDLE.pretraining, steps=5000),
        Pretraining(BACKBONE, steps=400, batch_size=32, learning_rate=1e-3),
        AlignSettings(batch_size=32, stage1_steps=50, max_steps=150),
    ),
    training=Training(("edge-on", "spiral"), (10, 20, 40, 160, 640), 1, Recipe(1e-3, epochs=8, fewest_steps=160)),
)
SMALL = replace(
    MIDDLE,
    seeds=3,
    fewer_seeds=2,
    simulated=10_000,
    fit=cross_fit_sizes.SMALL,
    features=FeatureSize(cross_fit_sizes.SMALL.pretraining, resnet=None, align=None),
    training=replace(MIDDLE.training, labels=(10, 160, 640)),
)
FULL = Size(
    seeds=10,
    fewer_seeds=10,
    simulated=100_000,
    fit=cross_fit_sizes.FULL,
    features=FeatureSize(
        cross_fit_sizes.FULL.pretraining,
        replace(cross_fit_sizes.FULL.pretraining, preset=BACKBONE),
        AlignSettings(),
    ),
    training=Training(
        ("edge-on", "spiral", "irregular", "barred", "ringed", "dusty"),
        (20, 40, 80, 160, 320, 640, 1280),
        3,
        Recipe(1e-3, epochs=25, fewest_steps=300),
    ),
)


SIZES = {"small": SMALL, "middle": MIDDLE, "full": FULL}


@dataclass(frozen=True)
class Task:
    """A measurement: searches with the first `seeds` seeds; or ResNet18's training where `labels` are given."""

    target: str
    features: str = LVM
    strategy: str = OURS
    error: float = 0.0
    held_out: bool = False
    seeds: int = 0
    labels: int = 0
    draw: int = 0


class SearchEvidence:
    """Stamps, targets and features of one size."""

    def __init__(self, bench: Workbench, size: Size) -> None:
        self.bench, self.size = bench, size
        self.real = real_stamps()
        self.targets = {target.name: target for target in real_targets(self.real)}
        rows = CrossFit(bench, self.real, size.fit).unlabelled(size.fit.tested[0])
        self.maker = FeatureMaker(bench, self.real, rows, size.features, THREADS)
        self.targets |= {target.name: target for target in simulated_targets(self.simulated)}

    @cached_property
    def simulated(self) -> Stamps:
        """Drawn at first."""
        return simulated_stamps(self.bench.folder, self.size.simulated)

    def stamps(self, target: Target) -> Stamps:
        """That the target's rows are of."""
        return self.simulated if target.source == SIMULATED else self.real

    def vectors(self, target: Target, features: str) -> Vectors:
        """(n, D) of the target's pool."""
        of = SIMULATED if target.source == SIMULATED else "real"
        return self.maker.features(features, self.stamps(target), of)[target.rows]

    def prepare(self) -> None:
        """What all processes read."""
        for name in self.maker.names:
            for of, stamps in (("real", self.real), (SIMULATED, self.simulated)):
                self.maker.features(name, stamps, of)

    def tasks(self) -> list[Task]:
        """All that is measured, the longest first; GalaxAlign is not asked for what it was taught."""
        size, training, tasks = self.size, self.size.training, []
        for labels in sorted(training.labels, reverse=True):
            tasks += [Task(t, labels=labels, draw=d) for t in training.targets for d in range(training.draws)]
        judged_alike = large(tuple(self.targets.values()))
        for name, target in sorted(self.targets.items(), key=lambda each: -len(each[1].rows)):
            for strategy in STRATEGIES:
                tasks.append(Task(name, strategy=strategy, seeds=size.seeds))
                tasks.append(Task(name, strategy=strategy, seeds=size.fewer_seeds, error=ERROR))
                if target in judged_alike:
                    tasks.append(Task(name, strategy=strategy, seeds=size.seeds, held_out=True))
            if target in judged_alike:
                tasks.append(Task(name, strategy=ALL_LABELS, seeds=size.seeds, held_out=True))
            for features in self.maker.names:
                taught = features == ALIGN and target.source == ALIGNED_SOURCE
                if features != LVM and not taught:
                    tasks.append(Task(name, features=features, seeds=size.fewer_seeds))
        return tasks

    def measured(self, task: Task) -> dict[str, Any]:
        """`curves` of the searches, or `ceilings` of their features; or the network's `labels` and `auc`."""
        target, sizes = self.targets[task.target], self.size.features
        how = sizes.resnet if task.features == RESNET else sizes.own
        key: dict[str, Any] = {"target": task.target, "members": target.members, "pool": len(target.rows)}
        if task.labels:
            return self.bench.cell(
                lambda: resnet(self.stamps(target), target, task.labels, task.draw, self.size.training.recipe),
                model="resnet18", labels=task.labels, draw=task.draw, recipe=str(self.size.training.recipe), **key,
            )  # fmt: skip
        ceiling = task.strategy == ALL_LABELS
        measure = self._taught if ceiling else self._searched
        found = [
            self.bench.cell(
                lambda seed=seed: measure(task, seed),  # type: ignore[misc]
                features=task.features, strategy=task.strategy, error=task.error, held_out=task.held_out,
                seed=seed, pretraining=f"{how} {simulator_digest()}", **key,
            )
            for seed in range(task.seeds)
        ]  # fmt: skip
        return {"ceilings" if ceiling else "curves": found}

    def _taught(self, task: Task, seed: int) -> dict[str, Any]:
        target = self.targets[task.target]
        searched, held_out = split(self.stamps(target), target, seed)
        return taught_all(self.vectors(target, task.features), target.wanted, searched, held_out, seed)

    def _searched(self, task: Task, seed: int) -> dict[str, Any]:
        target = self.targets[task.target]
        held_out = split(self.stamps(target), target, seed)[1] if task.held_out else NOBODY
        vectors, strategy = self.vectors(target, task.features), STRATEGIES[task.strategy]
        return search(vectors, target.wanted, strategy, seed, error=task.error, held_out=held_out).to_dict()


def run(bench: Workbench) -> None:
    """Measure, and write tables, plot and figures."""
    torch.set_num_threads(THREADS)
    evidence = opened(bench)
    evidence.prepare()
    tasks = evidence.tasks()
    in_processes(THREADS, bench, opened, SearchEvidence.measured, tasks)
    found: Mapping[Task, dict[str, Any]] = {task: evidence.measured(task) for task in tasks}
    write(bench, _results(evidence, found))


def opened(bench: Workbench) -> SearchEvidence:
    """That of the bench's size."""
    return SearchEvidence(bench, SIZES[bench.size])


def _results(evidence: SearchEvidence, found: Mapping[Task, dict[str, Any]]) -> Results:
    """The measurements, as the report takes them."""
    searches = {
        (task.features, task.strategy, task.error, task.held_out, task.target): content["curves"]
        for task, content in found.items()
        if "curves" in content
    }
    ceilings = {task.target: content["ceilings"] for task, content in found.items() if "ceilings" in content}
    networks: dict[str, dict[float, float]] = {}
    for name in evidence.size.training.targets:
        of = [content for task, content in found.items() if task.labels and task.target == name]
        counts = {each["labels"] for each in of}
        networks[name] = {n: float(np.mean([each["auc"] for each in of if each["labels"] == n])) for n in counts}
    how = evidence.size.features
    return Results(
        searches, ceilings, networks, tuple(evidence.targets.values()), evidence.maker.names, ERROR,
        f"Our LVM: `{how.own.preset}`, pre-trained on {' and '.join(dict(how.own.pretexts))} for {how.own.steps} steps "
        f"of {how.own.batch_size} real stamps and as many of {how.own.pictures} simulated galaxies, none of the "
        f"{evidence.size.simulated} that are searched, but of the same simulator, which taught what is called merging."
        + (f" ResNet18: the same questions, {how.resnet.steps} steps." if how.resnet else ""),
    )  # fmt: skip
