"""What a search has taught so far, as one file: enough to learn the same again, and to say where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.errors import GalaxyError
from infra.settings import Settings
from infra.stage_folder import canonical_digest, write_atomic
from tasks.search.features import SearchFeatures

SEARCHES = "searches"
SearchName = Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=40)]


class Lesson(BaseModel):
    """The labels of a search, with what they are labels of.

    Objects are named and not numbered, so that the lesson stays true for a newer version of the dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SearchName = Field(description="Name of the search; the learner is registered as galaxy-search-NAME.")
    owner: str = Field("", max_length=200, description="Who began the search.")
    catalogue: Path = Field(description="Folder of the published catalogue that was searched.")
    dataset_digest: str = Field(description="Of its stamps.")
    model: str = Field(description="Registered name of the model whose embeddings were looked at.")
    model_version: str
    seed: int = Field(0, ge=0)
    object_id: tuple[str, ...] = Field(min_length=1, description="Labelled objects.")
    wanted: tuple[bool, ...] = Field(description="Whether each is wanted.")
    reasons: tuple[str, ...] = Field(description="Why each was shown; `example` for what was brought along.")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not len(self.object_id) == len(self.wanted) == len(self.reasons):
            raise ValueError(
                f"{len(self.object_id)} objects, {len(self.wanted)} labels and {len(self.reasons)} reasons; there must "
                "be one of each"
            )
        if not any(self.wanted):
            raise ValueError(f"search {self.name!r} has no wanted object yet; nothing can be learnt")
        return self

    @property
    def digest(self) -> str:
        """Of all that it holds; the order of the labels and the folder's place play no part."""
        labels = sorted(zip(self.object_id, self.wanted, self.reasons, strict=True))
        content = self.model_dump(mode="json", exclude={"catalogue", "owner", "object_id", "wanted", "reasons"})
        return canonical_digest({**content, "labels": labels})

    def rows_in(self, features: SearchFeatures) -> NDArray[np.int64]:
        """(n,) rows of the labelled objects.

        Raises
        ------
        GalaxyError
            If the features are another model's or another dataset's, or lack an object.
        """
        told = (self.dataset_digest, self.model, self.model_version)
        found = (features.dataset_digest, features.model, features.model_version)
        if told != found:
            raise GalaxyError(
                f"search {self.name}: labelled were stamps {told[0][:12]} seen by {told[1]} {told[2]}; the catalogue "
                f"in {self.catalogue} has stamps {found[0][:12]} seen by {found[1]} {found[2]}. Name the catalogue "
                "that was searched, or begin a new search with these labels"
            )
        rows = pd.Index(features.object_id).get_indexer(pd.Index(self.object_id))
        if (rows < 0).any():
            lost = self.object_id[int(np.argmax(rows < 0))]
            raise GalaxyError(f"search {self.name}: the labelled object {lost!r} is not in {self.catalogue}")
        return np.asarray(rows, np.int64)

    def save(self, settings: Settings) -> Path:
        """Write the lesson where `find_lesson` looks; one that is there already stays."""
        path = settings.home / SEARCHES / self.name / f"lesson-{self.digest[:12]}.json"
        if not path.is_file():
            write_atomic(path, self.model_dump_json(indent=2).encode())
        return path


def find_lesson(search: str, settings: Settings) -> Lesson:
    """The newest lesson of a search by its name, or the one in a file by its path.

    Raises
    ------
    GalaxyError
        If there is none, or the file is no lesson.
    """
    path = Path(search).expanduser()
    if not path.is_file():
        folder = settings.home / SEARCHES
        lessons = [found for found in folder.glob("*/lesson-*.json") if found.parent.name == search]
        if not lessons:
            there = sorted({found.parent.name for found in folder.glob("*/lesson-*.json")})
            raise GalaxyError(
                f"no search {search!r} in {folder}; there are: {', '.join(there) or 'none'}. "
                "Begin one with `galaxy label`"
            )
        path = max(lessons, key=lambda found: found.stat().st_mtime_ns)
    try:
        return Lesson.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        raise GalaxyError(f"{path} is no lesson of a search: {first['loc']}: {first['msg']}") from None
