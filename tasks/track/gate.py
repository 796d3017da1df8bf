"""The gate at work: asks who is champion, decides, writes the decision down, and moves the alias last.

What a training stage hands over is `result["evaluation"]`: `metric` (name), `higher_is_better`, and `scores`, the path
of a Parquet table with one row per object of its fixed evaluation set:

- `object_id`: string, unique.
- `label`: the truth, a class name, a number, or several as text; `truth.<name>` then has each as a number.
- `score` (optional): float, what the model earned for this object: 1 or 0 for right or wrong, or the object's own
  value of a metric that is a mean (a PSNR, an error). For a metric whose name ends in `auc` or `average_precision`:
  the model's score.
- `positive` (optional, needed for `auc` and `average_precision`): bool, the class that is looked for.
- `row` (optional): its row in the dataset, for readers; objects are found by their id.
- `role` (optional): `query` for the objects that are judged, anything else for those they are compared with.

Where `score` is absent, the registered version is asked (scores.py), and where the champion was measured on another
set, so is the champion. `evaluation` (decision.py) makes such a table and refuses what the gate could not use.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.track.client import connect
from tasks.track.decision import (
    Decision,
    Outcome,
    bootstrap,
    decide,
    evaluation,
    evaluation_digest,
    not_comparable,
    statistic_of,
)
from tasks.track.registry import CHAMPION, PREVIOUS

if TYPE_CHECKING:
    from tasks.track.scores import Rescore

__all__ = ["Decision", "decide", "decide_and_promote", "evaluation", "evaluation_digest", "roll_back"]

DIGEST_TAG = "gate.evaluation_digest"
METRIC_TAG = "gate.metric"
AGAINST_TAG = "gate.against"
ROLLED_BACK_TAG = "gate.rolled_back"
NOBODY = "nobody"
SCORES_FOLDER, SCORES_FILE = "gate", "scores.parquet"


def decide_and_promote(
    settings: Settings,
    name: str,
    version: str,
    evaluation: Mapping[str, Any],
    *,
    dataset_digest: str = "",
    rescore: Rescore | None = None,
) -> Decision:
    """Decide whether `version` becomes champion, write that on it as tags, and then move the alias.

    A version that has been judged is not judged again: a killed run that comes by twice finds the same decision,
    and finishes what it says.

    Parameters
    ----------
    evaluation
        `result["evaluation"]` of a training stage; see the head of this file.
    dataset_digest
        Of the dataset that the evaluation set is part of: other pixels are another set.
    rescore
        Asks a version about the objects of an evaluation table; `scores.asker` makes one.

    Raises
    ------
    GalaxyError
        If the evaluation set cannot be used.
    """
    client = connect(settings)
    champion = _version_of(settings, name, CHAMPION)
    decision = _recorded(settings, name, version)
    if decision is None:
        decision = _judge(settings, name, version, champion, evaluation, dataset_digest, rescore)
        written = {**decision.tags(), METRIC_TAG: str(evaluation["metric"])}
        for tag, value in {**written, AGAINST_TAG: champion or NOBODY}.items():  # the last says that all are there
            client.set_model_version_tag(name, version, tag, value)
    tags = client.get_model_version(name, version).tags
    if decision.promote and tags[AGAINST_TAG] == (champion or NOBODY) and ROLLED_BACK_TAG not in tags:
        _crown(settings, name, version, champion)  # still the champion that it was judged against
    return decision


def roll_back(settings: Settings, name: str) -> str:
    """Make the previous champion champion again, and the champion of now the previous; its version.

    Raises
    ------
    GalaxyError
        If there is no previous champion.
    """
    champion, previous = _version_of(settings, name, CHAMPION), _version_of(settings, name, PREVIOUS)
    if previous is None or previous == champion:
        raise GalaxyError(f"{name} has no previous champion to go back to; `galaxy status` shows its versions")
    if champion is not None:
        connect(settings).set_model_version_tag(name, champion, ROLLED_BACK_TAG, "yes")
    _crown(settings, name, previous, champion)
    return previous


def _crown(settings: Settings, name: str, version: str, champion: str | None) -> None:
    """Note who was champion, and move the alias as the very last act: before it, nothing has changed for a reader."""
    client = connect(settings)
    if champion is not None:
        client.set_registered_model_alias(name, PREVIOUS, champion)
    client.set_registered_model_alias(name, CHAMPION, version)


def _judge(
    settings: Settings,
    name: str,
    version: str,
    champion: str | None,
    evaluation: Mapping[str, Any],
    dataset_digest: str,
    rescore: Rescore | None,
) -> Decision:
    metric = str(evaluation["metric"])
    table = pd.read_parquet(evaluation["scores"])
    digest = evaluation_digest(table, dataset_digest)
    if "score" not in table:
        answer = _ask(version, table, metric, rescore)
        if isinstance(answer, str):
            return bootstrap() if champion is None else not_comparable(f"version {version} cannot be scored: {answer}")
        table = answer
    _keep_scores(settings, name, version, table, digest)
    if champion is None:
        return decide(table, None, statistic=statistic_of(metric))
    theirs: pd.DataFrame | str | None = _stored_scores(settings, name, champion, digest, metric)
    if theirs is None:
        theirs = _ask(champion, table.drop(columns="score"), metric, rescore)
    if isinstance(theirs, str):
        return not_comparable(f"champion {champion} cannot be scored on this evaluation set: {theirs}")
    return decide(table, theirs, bool(evaluation["higher_is_better"]), statistic=statistic_of(metric))


def _ask(version: str, table: pd.DataFrame, metric: str, rescore: Rescore | None) -> pd.DataFrame | str:
    """The table with the scores of `version`, or the reason why there are none."""
    if rescore is None:
        return "it was measured on another set, or not at all, and nothing was given to ask it with"
    try:
        return rescore(version, table, metric)
    except (ValueError, GalaxyError) as error:  # the errors of a model's own code are ValueErrors
        return str(error)


def _keep_scores(settings: Settings, name: str, version: str, table: pd.DataFrame, digest: str) -> None:
    """Keep what the version scored beside its run, so that the next challenger can be paired with it."""
    client = connect(settings)
    run_id = client.get_model_version(name, version).run_id
    if run_id:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / SCORES_FILE
            table.to_parquet(path, index=False)
            client.log_artifact(run_id, str(path), SCORES_FOLDER)
    client.set_model_version_tag(name, version, DIGEST_TAG, digest)


def _stored_scores(settings: Settings, name: str, version: str, digest: str, metric: str) -> pd.DataFrame | None:
    """The champion's own scores, if it was measured by this metric on this very set."""
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    found = client.get_model_version(name, version)
    if found.tags.get(DIGEST_TAG) != digest or found.tags.get(METRIC_TAG) != metric or not found.run_id:
        return None
    try:
        return pd.read_parquet(Path(client.download_artifacts(found.run_id, f"{SCORES_FOLDER}/{SCORES_FILE}")))
    except (MlflowException, OSError):  # cleared away; the champion itself can still be asked
        return None


def _recorded(settings: Settings, name: str, version: str) -> Decision | None:
    tags = connect(settings).get_model_version(name, version).tags
    if AGAINST_TAG not in tags:
        return None

    def number(key: str) -> float | None:
        return float(tags[key]) if key in tags else None

    return Decision(
        promote=tags["gate.decision"] == "promote",
        outcome=cast(Outcome, tags["gate.outcome"]),
        reason=tags["gate.reason"],
        challenger=number("gate.challenger"),
        champion=number("gate.champion"),
        low=number("gate.low"),
        high=number("gate.high"),
        objects=int(tags["gate.objects"]),
        positives=int(tags["gate.positives"]) if "gate.positives" in tags else None,
    )


def _version_of(settings: Settings, name: str, alias: str) -> str | None:
    aliases = connect(settings).get_registered_model(name).aliases
    return str(aliases[alias]) if alias in aliases else None
