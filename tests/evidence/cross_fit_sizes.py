"""What the evidence of few labels measures at each size: models, numbers of labels, learning rates, folds, draws."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.evidence.pretrained import Pretraining
from tests.evidence.stamps import FOLDS

OURS, UNTRAINED = "ours", "ours from scratch"
ALIKE, BACKBONE = "resnet18, pre-trained as ours", "timm:resnet18"
"""Tells what is due to the pre-training, and what to the network."""

FOREST, OWN_FOREST = "forest on statmorph", "forest on own measures"
FORESTS = (FOREST, OWN_FOREST)
PRETRAINED = (OURS, ALIKE)

MEAN = "mean of the training votes"
"""Asked for vote fractions alone."""

CHOSEN_AT = 50
"""Labels a class at which rates are chosen and the four classes are told."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes
    ----------
    tested, draws
        Folds that are tested, and draws of the labels for each.
    labels
        Numbers of labels a class, for each model.
    of_four
        Models that are also asked for the four classes.
    votes
        Numbers of labels a class, for each model that is asked for vote fractions.
    rates
        Learning rates of each network to choose from, once, at 50 a class of the five.
    pretraining_per_fold
        Pre-train for each test fold by itself; otherwise once, on stamps of no test fold.
    """

    tested: tuple[int, ...]
    draws: int
    labels: dict[str, tuple[int, ...]]
    of_four: tuple[str, ...]
    votes: dict[str, tuple[int, ...]]
    rates: dict[str, tuple[float, ...]]
    pretraining: Pretraining
    pretraining_per_fold: bool


COUNTS = (5, 10, 20, 50, 100, 200)
ASKED_FOR_VOTES = (CHOSEN_AT, 200)
SLOW, FAST = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3), (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
"""Learning rates that our network and ResNets choose from."""

MIDDLE = Size(
    tested=(3, 4),
    draws=1,
    labels={
        OURS: (0, *COUNTS),
        UNTRAINED: (10, 50, 200),
        "resnet18": COUNTS,
        "resnet50": (10, 50, 200),
        FOREST: COUNTS,
        OWN_FOREST: COUNTS,
    },
    of_four=(OURS, UNTRAINED, "resnet18", OWN_FOREST),
    votes={
        OURS: (0, *ASKED_FOR_VOTES),
        **dict.fromkeys((UNTRAINED, "resnet18", OWN_FOREST, MEAN), ASKED_FOR_VOTES),
    },
    rates={
        OURS: (1e-3, 2e-3, 4e-3),
        UNTRAINED: SLOW,
        "resnet18": FAST,
        "resnet50": (2e-3, 4e-3, 8e-3, 1.6e-2),
    },
    pretraining=Pretraining("nano", steps=2500, batch_size=32, learning_rate=1e-3),
    pretraining_per_fold=False,
)
SMALL = replace(
    MIDDLE,
    tested=(3,),
    labels={
        OURS: (0, 5, 10, 50, 200),
        UNTRAINED: (50,),
        "resnet18": (5, 50, 200),
        OWN_FOREST: (5, 10, 50, 200),  # statmorph takes minutes
    },
    of_four=(OURS, "resnet18", OWN_FOREST),
    votes={OURS: (0, CHOSEN_AT), OWN_FOREST: (CHOSEN_AT,), MEAN: (CHOSEN_AT,)},
    rates={OURS: (2e-3,), UNTRAINED: (5e-4,), "resnet18": (8e-3,)},
    pretraining=replace(MIDDLE.pretraining, steps=1200),
)
NETWORKS = (OURS, ALIKE, UNTRAINED, "resnet18", "resnet50")
FULL = Size(
    tested=tuple(range(FOLDS)),
    draws=3,
    labels={OURS: (0, *COUNTS), ALIKE: (0, *COUNTS), **dict.fromkeys((*NETWORKS[2:], *FORESTS), COUNTS)},
    of_four=(*NETWORKS, *FORESTS),
    votes={
        **dict.fromkeys(PRETRAINED, (0, *ASKED_FOR_VOTES)),
        **dict.fromkeys((*NETWORKS[2:], OWN_FOREST, MEAN), ASKED_FOR_VOTES),
    },
    rates={
        **dict.fromkeys((OURS, UNTRAINED), SLOW),
        **dict.fromkeys((ALIKE, "resnet18", "resnet50"), FAST),
    },
    pretraining=Pretraining("nano", steps=6000, batch_size=64, learning_rate=1e-3),
    pretraining_per_fold=True,
)


SIZES = {"small": SMALL, "middle": MIDDLE, "full": FULL}
