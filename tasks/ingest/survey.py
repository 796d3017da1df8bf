"""The survey definition: one TOML file says where galaxies come from and what their labels teach."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from infra.errors import GalaxyError
from infra.locate import locate
from infra.profile import parse_toml
from infra.settings import SKY_VARIABLE, Settings
from tasks.ingest.source_kinds import (
    BricksSource,
    Definition,
    LegacySurveysSource,
    MultimodalSource,
    Name,
    Source,
    SteinSource,
)

FLUX_BANDS = ("g", "r", "i", "z")
"""Bands that the models' input stretch knows, blue to red."""

ELLIPTICITY = ("axis_ratio", "e1", "e2")
"""Parameters that a label table's `ellipticity` gives; see `galaxy_models/ellipticity.py`."""

TEACHES: Mapping[str, tuple[str, ...]] = {
    "classes": ("classification", "align", "neighbours"),
    "votes": ("votes",),
    "values": ("parameters",),
    "grade": ("lens",),
    "truth_mask": ("lens",),
}
"""Kind of label table to the tasks that can learn from it."""


class LabelTable(Definition):
    """One kind of label of one source, and what it teaches.

    `classes` gives the column `label.<name>` (class name), `votes` gives `votes.<name>.<question>.<answer>`
    (fraction of the question's own answers) and, where it is known, `voters.<name>.<question>` (how many answered),
    `values` gives `value.<name>.<key>`, `grade` gives `grade.<name>`, `truth_mask` gives `mask.<name>`.
    """

    name: Name
    source: Name = Field(description="Source whose objects are labelled; a metric never pools sources.")
    kind: Literal["classes", "votes", "values", "grade", "truth_mask"]
    catalogue: str | None = Field(None, description="Table with the labels; the source's own if absent.")
    key: str | None = Field(None, description="Column of the object's id in that table; the source's if absent.")
    column: str | list[str] | None = Field(
        None,
        description="Column of the label, for `classes`, `grade` and `truth_mask`; for `classes` also several, "
        "whose values are joined by a slash.",
    )
    classes: dict[str, Name] = Field(default_factory=dict, description="Value in the table to class name.")
    questions: dict[Name, dict[Name, str]] = Field(
        default_factory=dict, description="For `votes`: question to answer to column."
    )
    parents: dict[Name, str] = Field(
        default_factory=dict,
        description="For `votes`, where columns are products along a decision tree: question to the column of the "
        "answer that leads to it, by which its columns are divided.",
    )
    minimum_parent: float = Field(
        0.0, ge=0, le=1, description="For `votes`: a question that fewer than this share reached counts as missing."
    )
    counts: bool = Field(
        False,
        description="For `votes`: columns hold numbers of votes, or sums of weighted votes, and not fractions.",
    )
    voters: dict[Name, str] = Field(
        default_factory=dict,
        description="For `votes`, where columns hold fractions: question to the column of the number of its votes, or "
        "of their summed weight. Other questions count as answered by `supposed_votes` people of the profile.",
    )
    values: dict[Name, str] = Field(default_factory=dict, description="For `values`: parameter name to column.")
    ellipticity: tuple[str, str] | None = Field(
        None,
        description="For `values`: columns of Tractor's ellipticity components e1 and e2, which give the parameters "
        "axis_ratio, e1 and e2; they turn with the stamp, and are missing where all other `values` are.",
    )
    missing: list[float] = Field(default_factory=list, description="For `values`: numbers that mean undetermined.")
    positive_from: float | None = Field(None, description="For `grade`: a lens at or above this.")
    negative_to: float | None = Field(None, description="For `grade`: not a lens at or below this.")
    feeds: list[Literal["classification", "votes", "parameters", "align", "lens", "neighbours"]] = Field(
        description="Tasks that learn from, or are scored on, this table."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needs = {
            "classes": ("column", "classes"),
            "votes": ("questions",),
            "values": ("values",),
            "grade": ("column", "positive_from", "negative_to"),
            "truth_mask": ("column",),
        }
        for key in needs[self.kind]:
            if getattr(self, key) in (None, {}):
                raise ValueError(f"label table {self.name!r} of kind {self.kind!r} needs the key `{key}`")
        strange = [task for task in self.feeds if task not in TEACHES[self.kind]]
        if strange:
            raise ValueError(
                f"label table {self.name!r} of kind {self.kind!r} cannot feed {', '.join(strange)}; "
                f"it may feed {', '.join(TEACHES[self.kind])}"
            )
        if self.kind == "classes" and (len(set(self.classes.values())) < 2 or not self.class_columns):
            raise ValueError(f"label table {self.name!r} needs a `column` and at least two different `classes`")
        if self.positive_from is not None and self.negative_to is not None and self.positive_from <= self.negative_to:
            raise ValueError(
                f"label table {self.name!r}: `positive_from` {self.positive_from:g} must lie above `negative_to` "
                f"{self.negative_to:g}"
            )
        if isinstance(self.column, list) and self.kind != "classes":
            raise ValueError(f"label table {self.name!r} of kind {self.kind!r} takes one `column`, not {self.column}")
        for key in ("parents", "voters"):
            unknown = sorted(set(getattr(self, key)) - set(self.questions))
            if unknown:
                raise ValueError(
                    f"label table {self.name!r}: `{key}` names questions {unknown}; there is {[*self.questions]}"
                )
        if self.counts and (self.parents or self.voters):
            raise ValueError(
                f"label table {self.name!r}: `counts` say of themselves how many answered a question; leave out "
                "`parents` and `voters`, which belong to fractions"
            )
        twice = sorted(set(self.values) & set(ELLIPTICITY)) if self.ellipticity else []
        if twice:
            raise ValueError(f"label table {self.name!r}: `ellipticity` gives {twice}, which `values` names as well")
        return self

    @property
    def parameters(self) -> list[str]:
        """For `values`: names of the parameters, in the order of the arrays."""
        return [*self.values, *(ELLIPTICITY if self.ellipticity else ())]

    @property
    def class_columns(self) -> list[str]:
        """Columns whose text makes the class; none for other kinds."""
        if self.kind != "classes":
            return []
        return [self.column] if isinstance(self.column, str) else list(self.column or [])


class Quality(Definition):
    """Limits of the quality flags; a flagged stamp trains nothing but is still in the catalogue."""

    minimum_snr: float = Field(0.0, ge=0, description="Below this total signal-to-noise a stamp is `faint`.")
    flags: list[Literal["blank", "masked", "faint", "star", "trail", "saturated", "crowded", "off_centre"]] = Field(
        default=["blank"], description="Flags that make a stamp unusable."
    )


class SurveyDefinition(Definition):
    """A survey: sources of stamps, one stamp geometry, and the label tables."""

    name: Name
    description: str = ""
    units: Literal["nanomaggy", "rgb"] = Field(description="What a pixel holds: flux, or display values 0..255.")
    bands: list[str] = Field(description="Band order of the stamps: R, G, B for `rgb`, else three of g, r, i, z.")
    stamp_size: int = Field(152, ge=32, le=512, description="Side of a stamp, pixels.")
    sources: list[Source] = Field(min_length=1)
    labels: list[LabelTable] = Field(default_factory=list)
    quality: Quality = Quality()
    invvar: bool = Field(False, description="Keep each stamp's inverse variance, where a source has it.")

    @field_validator("bands")
    @classmethod
    def _bands_of_units(cls, bands: list[str], info: ValidationInfo) -> list[str]:
        units = info.data.get("units")  # absent if it is wrong itself
        if units == "rgb" and bands != ["R", "G", "B"]:
            raise ValueError(f"with units 'rgb' bands must be ['R', 'G', 'B'], not {bands}")
        in_order = [band for band in FLUX_BANDS if band in bands]
        if units == "nanomaggy" and (len(bands) != 3 or bands != in_order):
            raise ValueError(
                f"with units 'nanomaggy' bands must be three different ones of {', '.join(FLUX_BANDS)}, "
                f"blue to red, such as ['g', 'r', 'z'], not {bands}"
            )
        return bands

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"source names must differ, not {names}")
        for table in self.labels:
            if table.source not in names:
                raise ValueError(f"label table {table.name!r} names source {table.source!r}; there is {names}")
            if table.kind == "truth_mask" and self.sources[names.index(table.source)].kind != "simulated":
                raise ValueError(f"label table {table.name!r}: only a simulated source has masks, not {table.source!r}")
        tables = [table.name for table in self.labels]
        if len(set(tables)) != len(tables):
            raise ValueError(f"label table names must differ, not {tables}")
        if any(source.kind == "simulated" for source in self.sources) and self.units != "nanomaggy":
            raise ValueError("a simulated source makes nanomaggies: `units` must be 'nanomaggy'")
        for source in self.sources:
            if isinstance(source, BricksSource | SteinSource | MultimodalSource):
                self._check_fluxes(source)
            if source.kind == "galaxy10" and self.units != "rgb":
                raise ValueError(f"source {source.name!r} holds pictures: `units` must be 'rgb'")
            if source.kind == "legacy_surveys":
                self._check_cutouts(source)
            if self.invvar and not getattr(source, "invvar", ""):
                raise ValueError(f"`invvar` is true, but source {source.name!r} has no inverse variance")
        return self

    def _check_fluxes(self, source: BricksSource | SteinSource | MultimodalSource) -> None:
        if self.units != "nanomaggy":
            raise ValueError(f"source {source.name!r} holds fluxes: `units` must be 'nanomaggy'")
        missing = [band for band in self.bands if band not in source.survey_bands]
        if missing:
            raise ValueError(f"source {source.name!r} has the bands {source.survey_bands!r}, without {missing}")

    def _check_cutouts(self, source: LegacySurveysSource) -> None:
        missing = [band for band in self.bands if band not in source.survey_bands]
        if self.units == "nanomaggy" and missing:
            raise ValueError(f"source {source.name!r} has the bands {source.survey_bands!r}, without {missing}")
        if self.units == "rgb" and source.invvar:
            raise ValueError(f"source {source.name!r}: pictures have no inverse variance; leave `invvar` out")

    def tables(self, task: str) -> list[LabelTable]:
        """The label tables that feed `task`, in the definition's order."""
        return [table for table in self.labels if task in table.feeds]


def load_survey(name_or_file: str) -> SurveyDefinition:
    """Read a shipped survey definition by name, or any by path.

    Raises
    ------
    GalaxyError
        If there is none of that name, or a key or value is not allowed; the message names both.
    """
    return parse_toml(locate("surveys", name_or_file), SurveyDefinition)


def expand(path: str, settings: Settings) -> str:
    """Put the sky folder and environment variables into a path of a definition.

    Raises
    ------
    GalaxyError
        If it names a variable that is not set.
    """
    expanded = os.path.expandvars(path.replace(f"${{{SKY_VARIABLE}}}", str(settings.sky)))
    unset = re.search(r"\$\{(\w+)\}", expanded)
    if unset:
        raise GalaxyError(
            f"the survey definition names the environment variable {unset[1]}, which is not set; set it, or write what "
            "it stands for into the definition"
        )
    return expanded
