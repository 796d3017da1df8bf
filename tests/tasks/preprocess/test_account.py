"""No object is lost between the catalogue and the splits without being counted."""

from __future__ import annotations

import pandas as pd

from tasks.preprocess.account import FATES, account_for
from tasks.preprocess.splits import GUARD, SPLITS


def rows(source, state, count, split="train", usable=None):
    usable = state == "valid" if usable is None else usable
    return pd.DataFrame({"source": source, "state": state, "split": split, "usable": usable}, index=range(count))


def quarantined(source, state, reason, count, kind="object"):
    ids = [f"{source}/{state}-{i}" for i in range(count)]
    return pd.DataFrame(
        {"kind": kind, "source": source, "object_id": ids, "table": None, "state": state, "reason": reason,
         "detail": [f"detail {i}" for i in range(count)]}
    )  # fmt: skip


TABLE = pd.concat(
    [
        rows("north", "valid", 50), rows("north", "valid", 9, "test"), rows("north", "valid", 4, GUARD),
        rows("north", "valid", 6, "validation", usable=False), rows("north", "failed", 3), rows("south", "valid", 5),
        rows("south", "no_coverage", 2),
    ],
    ignore_index=True,
)  # fmt: skip
QUARANTINE = pd.concat(
    [
        quarantined("north", "failed", "image unreadable", 3), quarantined("south", "no_coverage", "no coverage", 2),
        quarantined("north", "refused", "position missing", 11), quarantined("east", "refused", "no image file", 1),
        quarantined("north", "refused", "unknown label", 40, kind="label"),
    ],
    ignore_index=True,
)  # fmt: skip


def test_every_object_is_in_one_place():
    account = account_for(TABLE, QUARANTINE, named=91)
    counts = account.sources
    assert counts.index.tolist() == ["east", "north", "south"]
    assert counts.loc["north"].to_dict() == {
        "objects": 83, "valid": 69, "no_coverage": 0, "failed": 3, "refused": 11, "flagged": 6, "train": 50,
        "validation": 0, "test": 9, "guard": 4,
    }  # fmt: skip
    assert counts["objects"].tolist() == counts[list(FATES)].sum(axis=1).tolist() == [1, 83, 7]
    assert counts["valid"].tolist() == counts[["flagged", *SPLITS, GUARD]].sum(axis=1).tolist()
    assert account.total["usable"] == 68
    assert account.sentence() == "91 objects = 74 valid + 2 no coverage + 3 failed + 12 refused"
    assert account.problem() == ""


def test_objects_that_nobody_has_seen_are_told_of():
    assert "100 objects were named, 91 are accounted for" in account_for(TABLE, QUARANTINE, named=100).problem()


def test_reasons_come_with_an_example_and_labels_are_no_objects():
    reasons = account_for(TABLE, QUARANTINE).reasons
    assert reasons["count"].tolist() == [11, 3, 2, 1]
    assert reasons["reason"].iloc[0] == "position missing"
    assert reasons["example"].iloc[0] == "north/refused-0: detail 0"


def test_nothing_refused_leaves_an_empty_list():
    assert account_for(TABLE[TABLE["state"] == "valid"], QUARANTINE[:0]).reasons.empty
