"""What all labels of the searched half teach, on the same features: how far a search could come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from galaxy_models.metrics import auc
from tests.evidence.search_loop import TOP, hits_of
from tests.evidence.search_strategies import Floats, Rows

ALL_LABELS = "all labels"

LEARNERS = [
    {"learner": [LogisticRegression(class_weight="balanced", max_iter=1000)], "learner__C": [0.003, 0.03, 0.3]},
    {"learner": [SVC(class_weight="balanced")], "learner__C": [0.3, 1.0, 3.0]},
]
"""The best by AUC in five folds of the searched half is taken, and taught the whole of it."""


def taught_all(
    features: Floats, wanted: NDArray[np.bool_], searched: Rows, held_out: Rows, seed: int
) -> dict[str, float]:
    """Teach the answers of all `searched` rows, and judge by the rows `held_out`.

    Returns
    -------
    dict
        Number of `labels`; `precision` of the best `TOP`, as `search_loop.Curve` has it; `auc`.
    """
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    pipeline = Pipeline([("standardise", StandardScaler()), ("learner", LogisticRegression())])
    choice = GridSearchCV(pipeline, LEARNERS, scoring="roc_auc", cv=folds).fit(features[searched], wanted[searched])
    scores = choice.decision_function(features)
    hits, left = hits_of(scores, wanted, held_out)
    area = auc(wanted[held_out], scores[held_out])
    return {"labels": len(searched), "precision": hits / min(TOP, left), "auc": area}
