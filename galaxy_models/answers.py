"""What volunteers would say of a galaxy, told by the network; and which classes are known by such answers.

Learnt from simulated galaxies, whose truth is known, it lets a head for classes begin with what the answers say: a
volunteer who calls a galaxy featured, and a disk that is seen edge-on, has said `edge_on_disk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .simulation.volunteers import QUESTIONS
from .symbols import UnknownClassError, canonical_classes

Answer = tuple[str, str]
"""Question and answer."""

SMOOTH: Answer = ("smooth_or_featured", "smooth")
FEATURED: Answer = ("smooth_or_featured", "featured_or_disk")
FACE_ON: Answer = ("disk_edge_on", "no")
ARMS: Answer = ("has_spiral_arms", "yes")

ANSWERS_OF: Mapping[str, tuple[Answer, ...]] = {
    "smooth": (SMOOTH,),
    "featured": (FEATURED,),
    "artifact": (("smooth_or_featured", "artifact"),),
    "round_smooth": (SMOOTH, ("how_rounded", "round")),
    "in_between_smooth": (SMOOTH, ("how_rounded", "in_between")),
    "cigar_smooth": (SMOOTH, ("how_rounded", "cigar_shaped")),
    "elliptical": (SMOOTH,),
    "edge_on_disk": (FEATURED, ("disk_edge_on", "yes")),
    "face_on_disk": (FEATURED, FACE_ON),
    "spiral": (FEATURED, FACE_ON, ARMS),
    "no_spiral": (FEATURED, FACE_ON, ("has_spiral_arms", "no")),
    "tight_spiral": (FEATURED, FACE_ON, ARMS, ("spiral_winding", "tight")),
    "medium_spiral": (FEATURED, FACE_ON, ARMS, ("spiral_winding", "medium")),
    "loose_spiral": (FEATURED, FACE_ON, ARMS, ("spiral_winding", "loose")),
    "strong_bar": (FEATURED, FACE_ON, ("bar", "strong")),
    "weak_bar": (FEATURED, FACE_ON, ("bar", "weak")),
    "no_bar": (FEATURED, FACE_ON, ("bar", "no")),
    "undisturbed": (("merging", "none"),),
    "minor_disturbance": (("merging", "minor_disturbance"),),
    "major_disturbance": (("merging", "major_disturbance"),),
    "merger": (("merging", "merger"),),
}
"""Canonical class to the answers along the tree by which a volunteer says it."""

ASKED_AFTER: Mapping[str, tuple[Answer, ...]] = {
    "smooth_or_featured": (),
    "disk_edge_on": (FEATURED,),
    "has_spiral_arms": (FEATURED, FACE_ON),
    "bar": (FEATURED, FACE_ON),
    "how_rounded": (SMOOTH,),
    "spiral_winding": (FEATURED, FACE_ON, ARMS),
    "spiral_arm_count": (FEATURED, FACE_ON, ARMS),
    "merging": (),
}
"""Question to the answers that lead to it."""

PLACES: Mapping[Answer, int] = {
    answer: place for place, answer in enumerate((q, a) for q, answers in QUESTIONS.items() for a in answers)
}
"""Place of each answer among all in a row."""

UNLIKELY = -6.0
"""Least log-chance that heads are told: a network that is too sure must not rule a class out."""


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
    entropy = said * (said.clamp_min(1e-6).log() - told)
    total, asked = told.new_zeros(()), told.new_zeros(())
    start = 0
    for question, answers in QUESTIONS.items():
        chance = told.new_ones(len(said))
        for answer in ASKED_AFTER[question]:
            chance = chance * said[:, PLACES[answer]]
        stop = start + len(answers)
        total = total + (chance * entropy[:, start:stop].sum(dim=1)).sum()
        asked = asked + chance.sum()
        start = stop
    return total / asked.clamp_min(1e-6)


def said_by_answers(classes: Sequence[str]) -> Tensor | None:
    """(answers, classes) of ones where an answer is one of those that say a class; None if not all are known so.

    The log-chances of all answers, multiplied by it, are the log-chances of the classes.
    """
    try:
        said = [ANSWERS_OF.get(name, ()) for name in canonical_classes(classes)]
    except UnknownClassError:
        return None
    if not all(said):
        return None
    table = torch.zeros(len(PLACES), len(said))
    for place, answers in enumerate(said):
        table[[PLACES[answer] for answer in answers], place] = 1.0
    return table
