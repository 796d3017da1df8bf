"""A search's labels as label tables that a survey definition can name."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from infra.errors import GalaxyError
from infra.stage_folder import write_atomic
from tasks.stamps.content import frame_digest

COLUMNS = ("object_id", "source", "wanted")
KEY = "id"
"""Column of the object's name within its source, which is how a definition's label tables name objects."""


@dataclass(frozen=True)
class PublishedLabels:
    """One source's labels.

    Attributes
    ----------
    definition
        The `[[labels]]` of a survey definition that names the file, as TOML: for `finetune` the answer as two classes,
        and for `find-lenses` as a grade.
    """

    source: str
    path: Path
    rows: int
    definition: str


def publish_labels(folder: Path, name: str, labels: pd.DataFrame) -> list[PublishedLabels]:
    """Write one Parquet file per source; a file's name holds the digest of its content, and none is written over.

    Parameters
    ----------
    folder
        Where the tables go.
    name
        What was looked for, in small letters, digits and underscores: the classes are `name` and `not_name`.
    labels
        `object_id`, `source`, `wanted`, and any column besides, such as who said so and when.

    Raises
    ------
    GalaxyError
        If a column is missing, or one object has two labels.
    """
    missing = [column for column in COLUMNS if column not in labels]
    if missing:
        raise GalaxyError(
            f"labels of {name}: no column {missing[0]!r}; there are {', '.join(map(str, labels.columns))}"
        )
    twice = labels["object_id"][labels["object_id"].duplicated()]
    if len(twice):
        raise GalaxyError(f"labels of {name}: object {twice.iloc[0]!r} has two labels; settle which one holds")
    published = []
    for source, rows in labels.sort_values("object_id").groupby("source", sort=True):
        table = rows.drop(columns=["source"]).reset_index(drop=True)
        table.insert(0, KEY, [name.removeprefix(f"{source}/") for name in table["object_id"]])
        table.insert(2, "label", table["wanted"].map({True: "yes", False: "no"}))
        table["wanted"] = table["wanted"].astype(float)
        path = folder / f"{name}-{source}-{frame_digest(table)[:12]}.parquet"
        if not path.is_file():
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            write_atomic(path, buffer.getbuffer())
        published.append(PublishedLabels(str(source), path, len(table), _definition(name, str(source), path)))
    return published


def _definition(name: str, source: str, path: Path) -> str:
    place = json.dumps(str(path.resolve()))  # a TOML basic string is written like JSON's
    shared = f'source = "{source}"\ncatalogue = {place}\nkey = "{KEY}"'
    return "\n".join(
        [
            "[[labels]]",
            f'name = "{name}"',
            shared,
            'kind = "classes"',
            'column = "label"',
            f'classes = {{ yes = "{name}", no = "not_{name}" }}',
            'feeds = ["classification"]',
            "",
            "[[labels]]",
            f'name = "{name}_grade"',
            shared,
            'kind = "grade"',
            'column = "wanted"',
            "positive_from = 1.0",
            "negative_to = 0.0",
            'feeds = ["lens"]',
            "",
        ]
    )
