"""Networks that tell volunteers' votes, with the product's own head and loss, and how they learn them from few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galaxy_models.heads import VotesHead
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.pooling import mean_and_spread
from galaxy_models.volunteer_answers import PLACES
from galaxy_models.votes import concentrations, fractions_with_spread, reach
from infra.profile import load_profile
from tasks.ingest.survey import load_survey
from tasks.train.label_tables import labelled_stamps
from tests.evidence.classifiers import FromScratch, Learning, Recipe, Rows, mean_of_looks, our_groups, teach
from tests.evidence.stamps import PROFILE, SURVEY, Stamps

TABLE = "gz2_votes"

Questions = Sequence[tuple[str, tuple[str, ...]]]

TOLD: Mapping[str, Sequence[Sequence[tuple[str, str]]]] = {
    "smooth": [[("smooth_or_featured", answer)] for answer in ("smooth", "featured_or_disk", "artifact")],
    "edge_on": [[("disk_edge_on", answer)] for answer in ("yes", "no")],
    "bar": [[("bar", "strong"), ("bar", "weak")], [("bar", "no")]],
    "spiral": [[("has_spiral_arms", answer)] for answer in ("yes", "no")],
    "roundness": [[("how_rounded", answer)] for answer in ("round", "in_between", "cigar_shaped")],
    "arm_winding": [[("spiral_winding", answer)] for answer in ("tight", "medium", "loose")],
    "arm_number": [[("spiral_arm_count", answer)] for answer in ("1", "2", "3", "4", "more_than_4", "cant_tell")],
}
"""Questions of Galaxy Zoo 2 that pre-training tells, too: for each of their answers, in order, those that are it."""


@dataclass(frozen=True)
class Votes:
    """What volunteers said of all N stamps.

    Attributes
    ----------
    questions
        With their answers.
    fractions
        Question to (N, answers) float32, NaN where it is not known or hardly anybody was asked.
    votes
        Question to (N,) float32: how many votes that stands for, as fine-tuning supposes it.
    """

    questions: Questions
    fractions: Mapping[str, NDArray[np.float32]]
    votes: Mapping[str, NDArray[np.float32]]

    def of(self, rows: Rows) -> Rows:
        """Those of `rows` that have votes on any question."""
        known = [np.isfinite(self.fractions[question][rows]).all(axis=1) for question, _ in self.questions]
        return rows[np.any(known, axis=0)]

    def squares(self, rows: Rows, told: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """(n, questions) squared error, mean over a question's answers; NaN where it is not known or not told."""
        nothing = np.full(len(rows), np.nan)
        errors = [
            np.square(self.fractions[name][rows] - told[name]).mean(axis=1) if name in told else nothing
            for name, _ in self.questions
        ]
        return np.stack(errors, axis=1)


def survey_votes(stamps: Stamps) -> Votes:
    """Galaxy Zoo 2's, read from the survey's label table."""
    [table] = [t for t in labelled_stamps(load_survey(SURVEY), stamps.table) if t.scheme.table == TABLE]
    count = len(stamps.table)
    fractions = {}
    for question, answers in table.scheme.questions:
        fractions[question] = np.full((count, len(answers)), np.nan, np.float32)
        fractions[question][table.rows] = table.targets[question]
    named = {
        question: {answer: torch.from_numpy(fractions[question][:, place]) for place, answer in enumerate(answers)}
        for question, answers in table.scheme.questions
    }
    supposed = load_profile(PROFILE).finetune.supposed_votes
    votes = {question: (supposed * share).numpy() for question, share in reach(named, table.tree).items()}
    return Votes(table.scheme.questions, fractions, votes)


class OurVotes(nn.Module):
    """The pipeline's own multi-task network with a head of votes alone."""

    def __init__(self, lvm: GalaxyLVM, questions: Questions, encoder_rate: float) -> None:
        super().__init__()
        names, answers = zip(*questions, strict=True)
        self.network = MultiTaskNetwork(lvm, [HeadScheme("votes", "", "votes", names, answers)])
        self.encoder_rate = encoder_rate

    @property
    def head(self) -> VotesHead:
        """What answers."""
        return cast(VotesHead, self.network.heads["votes"])

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to what the head reads, (N, D)."""
        return self.network.features(rgb)

    def groups(self) -> list[dict[str, Any]]:
        """The encoder learns slower than the head."""
        return our_groups(self.network, self.encoder_rate)


class VotesFromScratch(FromScratch):
    """One of timm's networks with random weights, as for classes, and the same head on it."""

    def __init__(self, name: str, questions: Questions, mean: Tensor, spread: Tensor) -> None:
        super().__init__(name, (), mean, spread)
        self.head = VotesHead(cast(Any, self.network).num_features, questions)


def train_votes(
    network: OurVotes | VotesFromScratch,
    stamps: Stamps,
    votes: Votes,
    rows: Rows,
    validation: Rows,
    recipe: Recipe,
    seed: int,
) -> float:
    """Train in place on the votes of `rows`, keeping the best look at `validation`; returns minus its error."""
    steps = recipe.steps(len(rows))
    learning = _Voting(network, stamps, votes, validation, recipe, recipe.looked_at_every(steps))

    def batches(first: int) -> Iterator[dict[str, Any]]:
        number = first
        while True:
            chosen = np.random.default_rng([seed, number]).choice(rows, recipe.batch_size)
            yield {"images": torch.from_numpy(stamps.images[chosen]), "rows": torch.from_numpy(chosen)}
            number += 1

    return teach(learning, batches, steps, recipe, seed)


def told_fractions(
    network: OurVotes | VotesFromScratch, stamps: Stamps, rows: Rows, looks: int = 8
) -> dict[str, NDArray[np.float64]]:
    """Question to (n, answers) fractions, mean over looks (`classifiers.mean_of_looks`)."""
    network.eval()

    def answer(rgb: Tensor) -> Tensor:
        outputs = network.head(network(rgb))
        return torch.cat([fractions_with_spread(concentrations(raw.float()))[0] for raw in outputs.values()], dim=1)

    return _by_question(mean_of_looks(answer, stamps, rows, looks), network.head.questions)


def told_without_votes(lvm: GalaxyLVM, stamps: Stamps, rows: Rows) -> dict[str, NDArray[np.float64]]:
    """The same of the pre-trained network, which no real vote has taught: questions of `TOLD` alone."""
    lvm.eval()
    chances = mean_of_looks(lambda rgb: lvm.tell(mean_and_spread(lvm.encode(rgb))).exp(), stamps, rows)
    return {
        question: np.stack([chances[:, [PLACES[each] for each in same]].sum(axis=1) for same in answers], axis=1)
        for question, answers in TOLD.items()
    }


def error_of(squares: NDArray[np.float64]) -> float:
    """Of (n, questions) squared errors the root of each question's mean, and of those the mean, as fine-tuning scores.

    A question that nobody was asked counts not at all.
    """
    known = squares[:, np.isfinite(squares).any(axis=0)]
    return float(np.sqrt(np.nanmean(known, axis=0)).mean())


class _Voting(Learning):
    """Dirichlet-multinomial loss; looks are scored by the error of the fractions."""

    def __init__(
        self,
        network: OurVotes | VotesFromScratch,
        stamps: Stamps,
        votes: Votes,
        validation: Rows,
        recipe: Recipe,
        look_steps: int,
    ) -> None:
        super().__init__(network, recipe, look_steps)
        self.stamps = stamps
        self.votes = votes
        self.validation = validation

    def loss(self, rgb: Tensor, batch: dict[str, Any]) -> Tensor:
        network, rows = cast(OurVotes | VotesFromScratch, self.classifier), batch["rows"].numpy()
        fractions = {name: torch.from_numpy(values[rows]) for name, values in self.votes.fractions.items()}
        votes = {name: torch.from_numpy(values[rows]) for name, values in self.votes.votes.items()}
        return network.head.loss(network(rgb), fractions, votes)

    def score(self) -> float:
        network = cast(OurVotes | VotesFromScratch, self.classifier)
        told = told_fractions(network, self.stamps, self.validation, looks=1)
        return -error_of(self.votes.squares(self.validation, told))


def _by_question(table: NDArray[np.float64], questions: Questions) -> dict[str, NDArray[np.float64]]:
    ends = np.cumsum([len(answers) for _, answers in questions])[:-1]
    return {question: part for (question, _), part in zip(questions, np.split(table, ends, axis=1), strict=True)}
