"""Whether a new version takes over: better beyond the 95 % interval, on the same objects, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.errors import GalaxyError

MINIMUM = 30
"""Positives, or objects where there are no positives, below which nothing is promoted."""

Statistic = Literal["mean", "auc", "average_precision"]
Outcome = Literal["bootstrap", "better", "not_better", "too_few", "not_comparable"]


@dataclass(frozen=True)
class Decision:
    """What the gate says, and on what numbers.

    Attributes
    ----------
    outcome
        `bootstrap` (first version), `better`, `not_better`, `too_few` or `not_comparable`.
    challenger, champion
        The metric of each on the evaluation set.
    low, high
        95 % interval of the challenger's advantage: positive is better, whichever way the metric goes.
    """

    promote: bool
    outcome: Outcome
    reason: str
    challenger: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    objects: int = 0
    positives: int | None = None

    @property
    def sentence(self) -> str:
        """In one line, for reports."""
        return f"{'promoted' if self.promote else 'not promoted'} ({self.outcome}): {self.reason}"

    def tags(self) -> dict[str, str]:
        """As tags of the model version."""
        content = {"decision": "promote" if self.promote else "keep", **asdict(self)}
        del content["promote"]
        return {f"gate.{name}": str(value) for name, value in content.items() if value is not None}


def evaluation(
    object_ids: Sequence[str],
    labels: Sequence[Any],
    scores: Sequence[float],
    positive: Sequence[bool] | None = None,
    rows: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The evaluation table of one model; its columns are in gate.py. Its rows are in the order of the ids.

    Raises
    ------
    GalaxyError
        If an id is there twice or a score is missing: a model must not do better by passing over hard objects.
    """
    table = pd.DataFrame({"object_id": np.asarray(object_ids, dtype=object), "label": labels, "score": scores})
    if positive is not None:
        table["positive"] = np.asarray(positive, dtype=bool)
    if rows is not None:
        table["row"] = np.asarray(rows, dtype=np.int64)
    table = table.sort_values("object_id", kind="stable", ignore_index=True)
    _complain(table)
    return table


def evaluation_digest(table: pd.DataFrame, dataset_digest: str = "") -> str:
    """SHA-256 (hex) of what is judged, never of how it was answered: ids, labels, positives, and the dataset."""
    kept = table.sort_values("object_id", kind="stable")
    digest = hashlib.sha256(dataset_digest.encode())
    for name in ("object_id", "label", "positive", "role"):
        if name in kept:
            digest.update(f"\0{name}\0".encode())
            digest.update("\0".join(str(value) for value in kept[name]).encode())
    return digest.hexdigest()


def statistic_of(metric: str) -> Statistic:
    """How objects' scores make the metric: by its name."""
    for name in ("auc", "average_precision"):
        if metric.lower().endswith(name):
            return cast(Statistic, name)
    return "mean"


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are judged: all, or those whose `role` is `query` where some are there to be compared with."""
    kept = table[table["role"] == "query"] if "role" in table else table
    return kept.sort_values("object_id", kind="stable", ignore_index=True)


def value_of(table: pd.DataFrame, statistic: Statistic = "mean") -> float:
    """The metric of the judged rows of one evaluation table."""
    kept = judged(table)
    return _value(kept["score"].to_numpy(dtype=float), _positive(kept, statistic), statistic)


def decide(
    challenger_scores: pd.DataFrame,
    champion_scores: pd.DataFrame | None,
    higher_is_better: bool = True,
    *,
    statistic: Statistic = "mean",
    draws: int = 2000,
    seed: int = 0,
) -> Decision:
    """Judge a challenger by a paired bootstrap over the objects of one evaluation set.

    Parameters
    ----------
    challenger_scores, champion_scores
        Evaluation tables of the same objects; None for the champion if there is none yet.
    statistic
        `mean` of the scores, or `auc` or `average_precision` of the scores against `positive`; the bootstrap
        then draws positives and negatives apart.

    Returns
    -------
    Decision
        Promotes the first version, and otherwise only if the whole 95 % interval of the difference is on the
        challenger's side and there are at least 30 positives (objects, where nothing is marked positive).
    """
    table = judged(challenger_scores)
    _complain(table)
    positives = int(table["positive"].sum()) if "positive" in table else None
    objects = len(table)
    mine = value_of(table, statistic)
    if champion_scores is None:
        return bootstrap(mine, objects, positives)
    theirs = judged(champion_scores)
    if evaluation_digest(table) != evaluation_digest(theirs) or theirs["score"].isna().any():
        return not_comparable("the champion's scores are of other objects or labels, or some are missing")
    champion = value_of(theirs, statistic)
    few = positives if positives is not None else objects
    if statistic != "mean":
        few = min(few, objects - few)
    if few < MINIMUM:
        what = "objects" if positives is None else "positives (or negatives)" if statistic != "mean" else "positives"
        reason = f"{few} {what} in the evaluation set; below {MINIMUM} nothing is promoted"
        return Decision(False, "too_few", reason, mine, champion, None, None, objects, positives)
    sign = 1.0 if higher_is_better else -1.0
    differences = sign * _differences(table, theirs, statistic, draws, np.random.default_rng(seed))
    low, high = (float(limit) for limit in np.quantile(differences, (0.025, 0.975)))
    reason = f"advantage {sign * (mine - champion):.4g}, 95 % interval {low:.4g} to {high:.4g}, {objects} objects"
    if low > 0:
        return Decision(True, "better", reason, mine, champion, low, high, objects, positives)
    return Decision(False, "not_better", f"{reason}: not beyond chance", mine, champion, low, high, objects, positives)


def bootstrap(value: float | None = None, objects: int = 0, positives: int | None = None) -> Decision:
    """The decision about a first version, measured or not."""
    reason = "the first version has nobody to beat"
    return Decision(True, "bootstrap", reason, value, objects=objects, positives=positives)


def not_comparable(reason: str) -> Decision:
    """The decision where the champion cannot be asked the same questions."""
    return Decision(False, "not_comparable", reason)


def _complain(table: pd.DataFrame) -> None:
    missing = [name for name in ("object_id", "label", "score") if name not in table]
    if missing or len(table) == 0:
        raise GalaxyError(f"an evaluation set needs rows and the columns object_id, label, score; missing: {missing}")
    if table["object_id"].duplicated().any():
        twice = table["object_id"][table["object_id"].duplicated()].iloc[0]
        raise GalaxyError(f"evaluation set: object {twice!r} is there twice; each object is judged once")
    if table["score"].isna().any():
        first = table["object_id"][table["score"].isna()].iloc[0]
        raise GalaxyError(f"evaluation set: object {first!r} has no score; every object of the set is judged")


def _differences(
    mine: pd.DataFrame, theirs: pd.DataFrame, statistic: Statistic, draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(draws,) differences of the metric, each on one resampling of the objects, the same for both."""
    a, b = mine["score"].to_numpy(dtype=float), theirs["score"].to_numpy(dtype=float)
    if statistic == "mean":
        difference = a - b
        return np.array([difference[generator.integers(0, len(a), len(a))].mean() for _ in range(draws)])
    positive = _positive(mine, statistic)
    yes, no = np.flatnonzero(positive), np.flatnonzero(~positive)
    found = np.empty(draws)
    for draw in range(draws):
        picked = np.concatenate([generator.choice(yes, len(yes)), generator.choice(no, len(no))])
        of_both = [_value(scores[picked], positive[picked], statistic) for scores in (a, b)]
        found[draw] = of_both[0] - of_both[1]
    return found


def _value(scores: NDArray[np.float64], positive: NDArray[np.bool_], statistic: Statistic) -> float:
    if statistic == "mean":
        return float(scores.mean())
    from galaxy_models import metrics  # with torch, which a command that judges nothing should not wait for

    return float({"auc": metrics.auc, "average_precision": metrics.average_precision}[statistic](positive, scores))


def _positive(table: pd.DataFrame, statistic: Statistic) -> NDArray[np.bool_]:
    if "positive" in table:
        return table["positive"].to_numpy(dtype=bool)
    if statistic != "mean":
        raise GalaxyError(f"an evaluation set for a metric of kind {statistic} needs the column `positive`")
    return np.zeros(len(table), dtype=bool)
