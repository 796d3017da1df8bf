"""What a search has found: the ranked list, agreement between people, and the test."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deployments.label_app.labels import Labels
from deployments.label_app.quality import Quality, quality_of
from deployments.label_app.service import Service
from deployments.label_app.states import State, learnt
from galaxy_models.preference import agreement


def ranked_rows(service: Service, state: State) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(n,) all galaxies that can be searched, the likeliest first, and (n,) their probabilities."""
    rows = np.flatnonzero(state.catalogue.searchable).astype(np.int64)
    probabilities = learnt(service, state).probabilities(rows)
    order = np.argsort(-probabilities, kind="stable")
    return rows[order], probabilities[order]


def ranked_table(service: Service, state: State) -> pd.DataFrame:
    """The ranked list with what people said and where all of it comes from."""
    rows, probabilities = ranked_rows(service, state)
    features, verdicts = state.catalogue.features, state.labels.verdicts()
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(rows) + 1),
            "object_id": np.asarray(features.object_id, object)[rows],
            "ra": np.asarray(features.ra, float)[rows],
            "dec": np.asarray(features.dec, float)[rows],
            "probability": probabilities,
            "label": [verdicts.get(row) for row in rows.tolist()],
            "held_back": np.isin(rows, state.held),
            "row": rows,
        }
    )


@dataclass(frozen=True)
class Agreement:
    """Two people and the galaxies that both said yes or no of.

    Attributes
    ----------
    kappa
        Cohen's.
    disputed
        Row to the answers of the two.
    """

    first: str
    second: str
    shared: int
    kappa: float
    disputed: dict[int, tuple[bool, bool]]


def agreements(labels: Labels) -> list[Agreement]:
    """Of each two people that labelled a galaxy in common."""
    found = []
    for first, second in combinations(sorted(labels.of_person), 2):
        rows = labels.shared(first, second)
        if len(rows):
            one, two = labels.answers(first, rows), labels.answers(second, rows)
            pairs = zip(rows.tolist(), one.tolist(), two.tolist(), strict=True)
            disputed = {row: (a, b) for row, a, b in pairs if a != b}
            found.append(Agreement(first, second, len(rows), agreement(one, two), disputed))
    return found


def tested_quality(service: Service, state: State, test_labels: Labels, threshold: float) -> Quality | None:
    """Purity and completeness by the test's labels; None before the first, or before there is a learner."""
    rows, wanted = test_labels.wanted()
    if not len(rows) or not state.teaching.is_enough:
        return None
    return quality_of(learnt(service, state).probabilities(rows), wanted, threshold)
