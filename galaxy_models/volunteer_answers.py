"""What volunteers would say of a galaxy, told by the network; and which classes are known by such answers.

Learnt from simulated galaxies, whose truth is known, it lets a head for classes begin with what the answers say: a
volunteer who calls a galaxy featured, and a disk that is seen edge-on, has said `edge_on_disk`. Volunteers are those of
the simulator (`simulation.volunteers`), so that the chances are no calibrated shares of real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .simulation.questions import QUESTIONS
from .symbols import UnknownClassError, canonical_classes
from .votes import TREE, reach

Answer = tuple[str, str]
"""Question and answer."""

PLACES: Mapping[Answer, int] = {
    answer: place for place, answer in enumerate((q, a) for q, answers in QUESTIONS.items() for a in answers)
}
"""Place of each answer among all in a row."""

TOLD_COLUMNS = tuple(f"told_{question}_{answer}" for question, answer in PLACES)
"""Names of the columns with the chances of the answers, in their places."""

LAST_ANSWER: Mapping[str, Answer] = {
    "smooth": ("smooth_or_featured", "smooth"),
    "featured": ("smooth_or_featured", "featured_or_disk"),
    "artifact": ("smooth_or_featured", "artifact"),
    "elliptical": ("smooth_or_featured", "smooth"),
    "round_smooth": ("how_rounded", "round"),
    "in_between_smooth": ("how_rounded", "in_between"),
    "cigar_smooth": ("how_rounded", "cigar_shaped"),
    "edge_on_disk": ("disk_edge_on", "yes"),
    "face_on_disk": ("disk_edge_on", "no"),
    "spiral": ("has_spiral_arms", "yes"),
    "no_spiral": ("has_spiral_arms", "no"),
    "tight_spiral": ("spiral_winding", "tight"),
    "medium_spiral": ("spiral_winding", "medium"),
    "loose_spiral": ("spiral_winding", "loose"),
    "strong_bar": ("bar", "strong"),
    "weak_bar": ("bar", "weak"),
    "no_bar": ("bar", "no"),
    "undisturbed": ("merging", "none"),
    "minor_disturbance": ("merging", "minor_disturbance"),
    "major_disturbance": ("merging", "major_disturbance"),
    "merger": ("merging", "merger"),
}
"""Canonical class to the answer with which a volunteer has said it."""

UNLIKELY = -6.0
"""Least log-chance that heads are told: a network that is too sure must not rule a class out."""


def log_chances(chances: Tensor) -> Tensor:
    """Of chances of any shape, none below `UNLIKELY`."""
    return chances.log().clamp_min(UNLIKELY)


def way_to(answer: Answer) -> tuple[Answer, ...]:
    """The answers along the tree (`votes.TREE`) that end with this one."""
    question, _ = answer
    parent = TREE[question]
    if parent is None:
        return (answer,)
    above, passing = parent
    [passed] = [(above, given) for given in QUESTIONS[above] if given in passing]
    return (*way_to(passed), answer)


class AnswersHead(nn.Module):
    """From pooled encoder maps to the log-chance of every answer to every question."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.last = nn.Linear(features, len(PLACES))

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, features) of `mean_and_spread` to (N, answers) float32, each question's chances summing to one."""
        with torch.autocast(pooled.device.type, enabled=False):
            raw = cast(Tensor, self.last(self.norm(pooled.float())))
        parts = raw.split([len(answers) for answers in QUESTIONS.values()], dim=1)
        return torch.cat([part.log_softmax(dim=1) for part in parts], dim=1)


def answers_loss(told: Tensor, said: Tensor) -> Tensor:
    """Relative entropy of what volunteers say to what is told, over questions as far as they are asked; a scalar.

    Parameters
    ----------
    told
        (N, answers) log-chances.
    said
        (N, answers) chances.
    """
    asked = chances_asked(said)
    entropy = said * (said.clamp_min(1e-6).log() - told)
    return (asked * entropy).sum() / _once_a_question(asked).sum().clamp_min(1e-6)


def mean_answers(said: Tensor) -> Tensor:
    """(answers,) chances of those who were asked: what tells best of the (N, answers) if one looks at none."""
    asked = chances_asked(said)
    return (asked * said).sum(dim=0) / asked.sum(dim=0).clamp_min(1e-6)


def chances_asked(said: Tensor) -> Tensor:
    """(N, answers): the chance that a volunteer comes to each answer's question, of what they say on the way."""
    fractions: dict[str, dict[str, Tensor]] = {question: {} for question in QUESTIONS}
    for (question, answer), place in PLACES.items():
        fractions[question][answer] = said[:, place]
    reached = reach(fractions)
    return torch.stack([reached[question] for question, _ in PLACES], dim=1)


def said_by_answers(classes: Sequence[str]) -> Tensor | None:
    """(answers, classes) of ones where an answer is one of those that say a class; None if not all are known so.

    The log-chances of all answers, multiplied by it, are the log-chances of the classes.
    """
    try:
        last = [LAST_ANSWER.get(name) for name in canonical_classes(classes)]
    except UnknownClassError:
        return None
    table = torch.zeros(len(PLACES), len(last))
    for place, answer in enumerate(last):
        if answer is None:
            return None
        table[[PLACES[each] for each in way_to(answer)], place] = 1.0
    return table


def _once_a_question(asked: Tensor) -> Tensor:
    firsts = [PLACES[question, answers[0]] for question, answers in QUESTIONS.items()]
    return asked[:, firsts]
