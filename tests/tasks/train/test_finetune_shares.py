"""A task that is made weak in the middle of a real training gets more of the steps until it has recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.heads import ClassificationHead
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.multitask import HeadScheme
from galaxy_models.training import History, fit
from infra.profile import FinetuneSettings
from tasks.train.degraded_pairs import degraded_pairs
from tasks.train.finetune_network import make_objective, new_network
from tasks.train.finetune_objective import MultiTaskObjective
from tasks.train.finetune_scores import Scorer
from tasks.train.label_tables import LabelledStamps
from tasks.train.working_copy import WorkingCopy

SIDE = 36
COUNT = 240
STEPS, EVERY, INJURED = 320, 20, 159
"""Steps, those between validations, and the one after which the head of the classes knows nothing any more."""

INPUTS = InputSpec(("R", "G", "B"), SIDE, 32, 1, (0.0, 60.0), True)
TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)


def ellipses() -> tuple[np.ndarray, np.ndarray]:
    """(COUNT, 3, SIDE, SIDE) uint8, round and flat ones, and their axis ratios."""
    generator = np.random.default_rng(1)
    ratio = np.where(np.arange(COUNT) % 2, generator.uniform(0.2, 0.4, COUNT), generator.uniform(0.8, 1, COUNT))
    angle = generator.uniform(0, np.pi, COUNT)[:, None, None]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = 200 * np.exp(-0.5 * (along**2 + (across / ratio[:, None, None]) ** 2) / 5**2)
    pixels = np.repeat(light[:, None], 3, axis=1) + generator.normal(0, 4, (COUNT, 3, SIDE, SIDE))
    return np.clip(pixels + 10, 0, 255).astype(np.uint8), ratio.astype(np.float32)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Of a training in which the head of the classes is made anew in the middle."""
    images, ratio = ellipses()
    rows, split = np.arange(COUNT), np.resize(["train", "train", "train", "train", "validation", "validation"], COUNT)
    classes = HeadScheme("shape", "toy", "classes", ("round", "flat"))
    values = HeadScheme("size", "toy", "values", ("axis_ratio",))
    tables = [
        LabelledStamps(classes, rows, split, {"code": rows % 2}),
        LabelledStamps(values, rows, split, {"value": ratio[:, None]}),
    ]
    # shares large enough, and an encoder slow enough, that what a task knows does not waver by itself
    settings = FinetuneSettings(
        batch_size=16,
        evaluate_steps=EVERY,
        validation_stamps=80,
        learning_rate=4e-3,
        encoder_rate=0.1,
        share_floor=0.4,
    )
    pairs = degraded_pairs(INPUTS, "rgb", INPUTS.bands, pd.DataFrame())
    scorer = Scorer(INPUTS, "rgb", WorkingCopy(rows, images), pairs, settings.mask_patch, settings.mask_fraction)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = new_network(GalaxyLVM(TINY), tables, seed=0)
    by_split = {name: rows[split == name] for name in ("train", "validation")}
    objective = make_objective(network, tables, by_split, scorer, settings)
    objective.__class__ = Injured
    folder: Path = tmp_path_factory.mktemp("training")
    options = {"learning_rate": settings.learning_rate, "weight_decay": 0.05, "seed": 0, "checkpoint_steps": STEPS}
    return fit(objective, objective.batches_from, steps=STEPS, folder=folder, **options)


class Injured(MultiTaskObjective):
    """Loses what its head of the classes has learnt after one step."""

    def on_step_end(self, step: int):
        if step == INJURED:
            head = self.network.heads["shape"]
            assert isinstance(head, ClassificationHead)
            with torch.no_grad():
                head.layers[-1].weight.neg_()
                head.layers[-1].bias.neg_()
        return super().on_step_end(step)


def over_time(history: History, name: str) -> dict[int, float]:
    return {int(point["step"]): point[name] for point in history if name in point}


def test_the_share_of_a_task_made_weak_rises_and_falls_back(history: History) -> None:
    share = over_time(history, "share.classification")
    before = share[INJURED - EVERY]
    after = [value for step, value in share.items() if step >= INJURED]
    assert share[INJURED] > before + 0.05, "the first validation after the injury gives it more"
    assert after[-1] < before + (max(after) - before) / 3, "and recovered it needs no more than it had"
    others = [over_time(history, f"share.{task}") for task in ("parameters", "restoration", "reconstruction")]
    assert all(other[INJURED] < other[INJURED - EVERY] for other in others)


def test_scores_and_deficits_stand_beside_the_shares(history: History) -> None:
    score, deficit = (over_time(history, f"{name}.classification") for name in ("validation", "deficit"))
    assert list(score) == list(deficit) == list(over_time(history, "share.classification"))
    assert score[INJURED - EVERY] > 0.8 > 0.3 > score[INJURED], "the injury is one"
    assert score[STEPS - 1] > 0.8, "and it heals"
    assert deficit[INJURED] - deficit[INJURED - EVERY] == pytest.approx(
        score[INJURED - EVERY] - score[INJURED], abs=0.11
    ), "a score beyond its reference has no deficit"
