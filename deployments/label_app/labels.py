"""What holds now: the labels that follow from the events. Nothing here is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deployments.label_app.tables import Vote
from infra.stage_folder import canonical_digest

ANSWERS = ("yes", "no", "unsure", "skip")
OPINIONS = {"yes": True, "no": False}
"""Answers that teach the learner."""

TEST = "test"


@dataclass(frozen=True)
class Labels:
    """What each person says of each row now.

    Attributes
    ----------
    of_person
        Person to row to answer.
    rounds
        Row to the round in which it was labelled first; None for an example that was brought along.
    """

    of_person: Mapping[str, Mapping[int, str]]
    rounds: Mapping[int, int | None] = field(default_factory=dict)

    def answered(self) -> NDArray[np.int64]:
        """(n,) rows that anybody has answered, in order."""
        return np.array(sorted({row for rows in self.of_person.values() for row in rows}), np.int64)

    def counts(self) -> Counter[str]:
        """How many rows are wanted, not wanted, disputed, unsure, skipped."""
        return Counter(self.verdicts().values())

    def verdicts(self) -> dict[int, str]:
        """What all people together say of a row: most of yes and no, else `disputed`, else `unsure`, else `skip`."""
        said: dict[int, list[str]] = defaultdict(list)
        for rows in self.of_person.values():
            for row, answer in rows.items():
                said[row].append(answer)
        return {row: _verdict(answers) for row, answers in sorted(said.items())}

    def wanted(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(n,) rows that are labelled yes or no, undisputed, in order; and (n,) whether yes."""
        chosen = {row: OPINIONS[verdict] for row, verdict in self.verdicts().items() if verdict in OPINIONS}
        return np.array(list(chosen), np.int64), np.array(list(chosen.values()), bool)

    def shared(self, first: str, second: str) -> NDArray[np.int64]:
        """(n,) rows of which two people both said yes or no, in order."""
        one, two = self.of_person.get(first, {}), self.of_person.get(second, {})
        both = [row for row in sorted(one) if one[row] in OPINIONS and two.get(row) in OPINIONS]
        return np.array(both, np.int64)

    def answers(self, person: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether a person said yes to each of some rows that they labelled."""
        return np.array([OPINIONS[self.of_person[person][int(row)]] for row in rows], bool)


def current_labels(votes: Iterable[Vote]) -> Labels:
    """Labels from events in their order: of each person and row the last vote that was not taken back."""
    events = list(votes)
    undone = {event.undoes for event in events if event.undoes is not None}
    of_person: dict[str, dict[int, str]] = defaultdict(dict)
    rounds: dict[int, int | None] = {}
    for event in events:
        if event.answer is not None and event.id not in undone:
            of_person[event.person][event.row] = event.answer
            rounds.setdefault(event.row, event.round_id)
    return Labels(dict(of_person), rounds)


def labels_digest(rows: NDArray[np.int64], wanted: NDArray[np.bool_], *origin: str) -> str:
    """Digest (hex) of what a learner learns from: labels, and what names catalogue and model."""
    return canonical_digest({"rows": rows.tolist(), "wanted": wanted.tolist(), "origin": list(origin)})


def _verdict(answers: list[str]) -> str:
    yes, no = answers.count("yes"), answers.count("no")
    if yes or no:
        return "yes" if yes > no else "no" if no > yes else "disputed"
    return "unsure" if "unsure" in answers else "skip"
