"""Classifiers of stamps, and the one way in which all of them are trained on few labels and asked."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.interpolation import between
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.metrics import macro_auc
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.training import Objective, encoder_groups, fit
from tests.evidence.pretrained import network_input
from tests.evidence.stamps import INPUTS, Stamps

Rows = NDArray[np.int64]

AUGMENTATION = Augmentation(shift=4.0, resize=0.2, brightness=0.2, colour=0.1, noise=0.02, blur=0.7)
"""Of all networks alike."""

LOOKS = 4
"""How often a training is scored on validation galaxies after its start; the best of its looks is what it gives."""

LAST, HALFWAY = (1.0,), (0.5, 1.0)
"""`Recipe.considers`."""


class Classifier(Protocol):
    """A network that tells classes, and says which of its parts learn how fast."""

    def __call__(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..1 to logits (N, classes)."""

    def groups(self) -> list[dict[str, Any]]:
        """See `Objective.parameter_groups`."""


class OurClassifier(nn.Module):
    """The pipeline's own multi-task network with a single head."""

    def __init__(self, lvm: GalaxyLVM, classes: Sequence[str], encoder_rate: float) -> None:
        super().__init__()
        self.network = MultiTaskNetwork(lvm, [HeadScheme("class", "", "classes", tuple(classes))])
        self.encoder_rate = encoder_rate

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to logits."""
        return cast(Tensor, self.network(rgb)["class"])

    def groups(self) -> list[dict[str, Any]]:
        """The encoder learns slower than the head."""
        return our_groups(self.network, self.encoder_rate)


def our_groups(network: MultiTaskNetwork, encoder_rate: float) -> list[dict[str, Any]]:
    """Parts of our network, the encoder at `encoder_rate` times the rate of norm and heads."""
    return [
        *encoder_groups(network.lvm, encoder_rate),
        {"module": network.norm, "learning_rate_scale": 1.0},
        {"module": network.heads, "learning_rate_scale": 1.0},
    ]


class FromScratch(nn.Module):
    """One of timm's networks with random weights."""

    def __init__(self, name: str, classes: Sequence[str], mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        network = timm.create_model(name, pretrained=False, num_classes=len(classes))
        self.network = network.to(memory_format=torch.channels_last)
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("spread", spread.view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to logits."""
        return cast(Tensor, self.network((rgb - cast(Tensor, self.mean)) / cast(Tensor, self.spread)))

    def groups(self) -> list[dict[str, Any]]:
        """All alike."""
        return [{"module": self, "learning_rate_scale": 1.0}]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes
    ----------
    epochs, fewest_steps
        The longer of the two.
    considers
        Shares of the way from the first weights to those of now, each of which a look scores: `LAST`; or `HALFWAY`,
        where the first weights are worth something.
    """

    learning_rate: float
    epochs: int
    fewest_steps: int
    batch_size: int = 32
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    considers: tuple[float, ...] = LAST

    def steps(self, stamps: int) -> int:
        """Of a training on so many stamps."""
        return max(self.fewest_steps, self.epochs * stamps // self.batch_size)

    @staticmethod
    def looked_at_every(steps: int) -> int:
        """Steps between the looks of a training of so many."""
        return max(1, steps // LOOKS)


@dataclass(frozen=True)
class Labelled:
    """Stamps with their classes: (n,) rows and (n,) codes."""

    rows: Rows
    codes: NDArray[np.int64]

    def few(self, per_class: int, seed: int) -> Labelled:
        """At most so many of each class, drawn by the seed; those of a smaller number are among those of a larger."""
        order = np.random.default_rng(seed).permutation(len(self.rows))
        chosen = np.concatenate([order[self.codes[order] == code][:per_class] for code in np.unique(self.codes)])
        return Labelled(self.rows[chosen], self.codes[chosen])


def train(
    classifier: nn.Module,
    stamps: Stamps,
    labelled: Labelled,
    validation: Labelled,
    recipe: Recipe,
    seed: int,
) -> float:
    """Train in place, keeping the weights of the best look at validation; returns that look's macro AUC."""
    steps = recipe.steps(len(labelled.rows))
    learning = _Classification(classifier, stamps, validation, recipe, recipe.looked_at_every(steps))
    batches = partial(_balanced_batches, stamps, labelled, recipe.batch_size, seed)
    return teach(learning, batches, steps, recipe, seed)


def teach(
    learning: Learning, batches_from: Callable[[int], Iterator[dict[str, Any]]], steps: int, recipe: Recipe, seed: int
) -> float:
    """Train in place, keeping the weights of the best look; returns that look's score."""
    learning.look()  # what it begins with may be better than what too few labels make of it
    with tempfile.TemporaryDirectory() as folder:
        fit(
            learning,
            batches_from,
            steps=steps,
            folder=Path(folder),
            checkpoint_steps=steps,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            seed=seed,
            threads=torch.get_num_threads(),
        )
    if learning.best_weights is not None:
        learning.classifier.load_state_dict(learning.best_weights)
    learning.classifier.eval()
    return learning.best


@torch.inference_mode()
def probabilities(classifier: nn.Module, stamps: Stamps, rows: Rows, looks: int = 8) -> NDArray[np.float64]:
    """(n, classes): the mean over the first `looks` of four quarter turns and their mirror images."""
    classifier.eval()
    return mean_of_looks(lambda rgb: classifier(rgb).float().softmax(1), stamps, rows, looks)


@torch.inference_mode()
def mean_of_looks(
    answer: Callable[[Tensor], Tensor], stamps: Stamps, rows: Rows, looks: int = 8
) -> NDArray[np.float64]:
    """(n, ...) of what `answer` makes of pictures, mean over the first `looks` of quarter turns and mirror images."""
    answers = []
    for part in np.array_split(rows, max(1, len(rows) // 256)):
        rgb = network_input(stamps, part)
        views = [torch.rot90(mirrored, turns, (2, 3)) for mirrored in (rgb, rgb.flip(3)) for turns in range(4)]
        answers.append(torch.stack([answer(view) for view in views[:looks]]).mean(0))
    return torch.cat(answers).double().numpy()


class Learning(Objective):
    """A network that learns from augmented stamps and is looked at now and then, its best look being kept.

    A subclass gives the loss of a batch, and the score of a look at validation galaxies.
    """

    def __init__(self, classifier: nn.Module, recipe: Recipe, look_steps: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.recipe = recipe
        self.look_steps = look_steps
        self.first_weights = copy.deepcopy(classifier.state_dict())
        self.best = -math.inf
        self.best_weights: dict[str, Tensor] | None = None

    def loss(self, rgb: Tensor, batch: dict[str, Any]) -> Tensor:
        """Of augmented pictures (N, 3, h, w) in 0..1; a scalar."""
        raise NotImplementedError

    def score(self) -> float:
        """Of validation galaxies, the higher the better."""
        raise NotImplementedError

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        return self.loss(augmented_input(batch["images"], "rgb", INPUTS, AUGMENTATION, generator), batch), {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return cast(Classifier, self.classifier).groups()

    def on_step_end(self, step: int) -> None:
        if (step + 1) % self.look_steps == 0:
            self.look()

    def look(self) -> None:
        """Score on validation galaxies all that a look considers, and keep the weights that are best so far."""
        now = copy.deepcopy(self.classifier.state_dict())
        for share in self.recipe.considers:
            weights = between(self.first_weights, now, share)
            self.classifier.load_state_dict(weights)
            score = self.score()
            if score > self.best:
                self.best, self.best_weights = score, weights
        self.classifier.load_state_dict(now)
        self.classifier.train()


class _Classification(Learning):
    """Cross-entropy; looks are scored by macro AUC."""

    def __init__(
        self, classifier: nn.Module, stamps: Stamps, validation: Labelled, recipe: Recipe, look_steps: int
    ) -> None:
        super().__init__(classifier, recipe, look_steps)
        self.stamps = stamps
        self.validation = validation

    def loss(self, rgb: Tensor, batch: dict[str, Any]) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return functional.cross_entropy(self.classifier(rgb), batch["codes"], label_smoothing=smoothing)

    def score(self) -> float:
        answer = probabilities(self.classifier, self.stamps, self.validation.rows, looks=1)
        return macro_auc(self.validation.codes, answer)


def _balanced_batches(stamps: Stamps, labelled: Labelled, size: int, seed: int, first: int) -> Iterator[dict[str, Any]]:
    """Every class equally often; batch b is a function of (seed, b)."""
    of_class = [np.flatnonzero(labelled.codes == code) for code in np.unique(labelled.codes)]
    number = first
    while True:
        generator = np.random.default_rng([seed, number])
        classes = generator.integers(len(of_class), size=size)
        places = np.array([generator.choice(of_class[each]) for each in classes])
        yield {
            "images": torch.from_numpy(stamps.images[labelled.rows[places]]),
            "codes": torch.from_numpy(labelled.codes[places]),
        }
        number += 1
