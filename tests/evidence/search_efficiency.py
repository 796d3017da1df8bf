"""Labels that a search needs to tell its kind of galaxy, against a network that learns from random ones.

Half of each pool is held out: nobody shows these galaxies, and both are judged on them alone, by the AUC. The examples
count as labels. The network gets, besides its labels, others from the half that is searched to choose its best look
by; they count as none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_models.metrics import auc
from tests.evidence.classifiers import FromScratch, Labelled, Recipe, probabilities, train
from tests.evidence.pretrained import network_input
from tests.evidence.search_loop import halves
from tests.evidence.search_targets import Target
from tests.evidence.stamps import Stamps

CLASSES = ("other", "wanted")
ENOUGH = 0.9
"""The AUC that is asked for."""

VALIDATION = 200
"""Galaxies that choose the network's best look."""


@dataclass(frozen=True)
class Training:
    """How ResNet18 learns from random labels.

    Attributes
    ----------
    labels
        How many; a number beyond the searched half takes it all, but for the galaxies that choose the look.
    """

    targets: tuple[str, ...]
    labels: tuple[int, ...]
    draws: int
    recipe: Recipe


def split(stamps: Stamps, target: Target, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in the target's pool: searched, and held out."""
    return halves(len(target.rows), stamps.table["duplicate_group"].to_numpy()[target.rows], seed)


def resnet(stamps: Stamps, target: Target, labels: int, seed: int, recipe: Recipe) -> dict[str, float]:
    """AUC on the held-out half of a ResNet18 that was trained from scratch on so many random labels."""
    searched, held_out = split(stamps, target, seed)
    order = np.random.default_rng((seed, 13)).permutation(searched)
    chosen = order[VALIDATION:][:labels]
    learnt, looked_at = (_labelled(target, places) for places in (chosen, order[:VALIDATION]))
    if len(np.unique(learnt.codes)) < 2:
        return {"labels": len(chosen), "auc": 0.5}  # nothing to tell apart
    sample = network_input(stamps, target.rows[searched])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FromScratch("resnet18", CLASSES, sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))
    train(network, stamps, learnt, looked_at, recipe, seed)
    score = probabilities(network, stamps, target.rows[held_out])[:, 1]
    return {"labels": len(chosen), "auc": auc(target.wanted[held_out], score)}


def _labelled(target: Target, places: NDArray[np.int64]) -> Labelled:
    return Labelled(target.rows[places], target.wanted[places].astype(np.int64))
