"""Where every object of the catalogue went: into a stamp, a split, or a list with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.preprocess.splits import GUARD, SPLITS
from tasks.stamps.stamp import STATES

FATES = ("valid", "no_coverage", "failed", "refused")
"""What an object that was named can have become; refused ones never reached the store."""

UNDONE = STATES[0]


@dataclass(frozen=True)
class Account:
    """Objects by what became of them.

    Attributes
    ----------
    sources
        Row a source, columns of int64: `objects`, the `FATES`, `flagged`, and the usable stamps of `train`,
        `validation`, `test` and `guard`. Objects are the sum of the fates, valid ones that of the rest.
    reasons
        Row a reason for having no stamp: `source`, `reason`, `count`, and one `example` with its detail; most first.
    named
        Objects that the sources named when they were ingested; None if that is not known.
    """

    sources: pd.DataFrame
    reasons: pd.DataFrame
    named: int | None

    @property
    def total(self) -> dict[str, int]:
        """Sums over the sources, with `usable`."""
        sums = {str(name): int(number) for name, number in self.sources.sum().items()}
        return {**sums, "usable": sums["valid"] - sums["flagged"]}

    def problem(self) -> str:
        """A sentence on objects that are not accounted for; empty if all are."""
        total = self.total
        if self.named is not None and total["objects"] != self.named:
            return f"{self.named} objects were named, {total['objects']} are accounted for; run ingest again"
        return ""

    def sentence(self) -> str:
        """All objects as a sum."""
        total = self.total
        fates = (f"{total[fate]:,} {fate.replace('_', ' ')}" for fate in FATES)
        return f"{total['objects']:,} objects = {' + '.join(fates)}"


def account_for(table: pd.DataFrame, quarantine: pd.DataFrame, named: int | None = None) -> Account:
    """Count the objects of a prepared dataset.

    Parameters
    ----------
    table
        `source`, `state`, `usable`, `split` of every row.
    quarantine
        As of the stamp dataset: objects that were refused, failed, or lie where there is no coverage.
    """
    objects = quarantine[quarantine["kind"] == "object"]
    refused = objects[objects["state"] == "refused"]["source"].astype(str)
    states, splits = table["state"].astype(str), table["split"].astype(str)
    source = table["source"].astype(str)
    valid = states == "valid"
    masks: Mapping[str, pd.Series] = {
        "valid": valid,
        "no_coverage": states == "no_coverage",
        "failed": states.isin(["failed", UNDONE]),
        "flagged": valid & ~table["usable"],
        **{split: table["usable"] & (splits == split) for split in (*SPLITS, GUARD)},
    }
    names = sorted({*source.unique(), *refused.unique()})
    counts = pd.DataFrame(
        {name: source[mask].value_counts().reindex(names, fill_value=0) for name, mask in masks.items()}, dtype=np.int64
    )
    counts["refused"] = refused.value_counts().reindex(names, fill_value=0)
    counts["objects"] = counts[list(FATES)].sum(axis=1)
    order = ["objects", *FATES, "flagged", *SPLITS, GUARD]
    return Account(counts[order].astype(np.int64), _reasons(objects), named)


def _reasons(objects: pd.DataFrame) -> pd.DataFrame:
    columns = ["source", "reason", "count", "example"]
    if objects.empty:
        return pd.DataFrame(columns=columns)
    known = objects[["source", "reason", "object_id", "detail"]].astype(object)
    text = known["object_id"].astype(str) + ": " + known["detail"].where(known["detail"].notna(), "").astype(str)
    groups = known.assign(example=text.str.removesuffix(": ")).groupby(["source", "reason"], sort=True)
    table = groups.agg(count=("example", "size"), example=("example", "first")).reset_index()
    return table.sort_values("count", ascending=False, kind="stable", ignore_index=True)[columns]
