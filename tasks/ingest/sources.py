"""Where stamps come from: what every kind of source can do, and the one for each definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import pandas as pd

from infra.settings import Settings
from tasks.ingest.fingerprint import table_digest
from tasks.ingest.source_kinds import (
    BricksSource,
    Galaxy10Source,
    ImagesSource,
    LegacySurveysSource,
    MultimodalSource,
    SimulatedSource,
    Source,
    SteinSource,
)
from tasks.ingest.source_table import Batch, SourceTable
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.stamps.stamp import Refusal, Stamp

__all__ = ["Refusal", "Stamp", "StampSource", "Streaming", "fingerprint", "open_source"]


class StampSource(Protocol):
    """A supply of stamps. It may be sent to another process, so it holds no open files."""

    @property
    def table(self) -> SourceTable | None:
        """The source's own table, for labels; None if there is none: then the labels come with the stamps."""

    def rows(self) -> pd.DataFrame:
        """Every object: `object_id` (unique over all sources), `ra`, `dec` (degrees, NaN unknown), further columns."""

    def files(self) -> set[str] | None:
        """Names of the files that the column `file` of `rows()` may have; None if that is not known beforehand."""

    def fingerprint(self) -> dict[str, str]:
        """What of the outside world the stamps depend on: its name to something that changes with it."""

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each of some rows of `rows()`, in order.

        Any rows may be asked for, in any process, again: the answer is always the same.
        """


@runtime_checkable
class Streaming(Protocol):
    """A source whose objects may be more than memory holds."""

    def batches(self) -> Iterator[Batch]:
        """What `rows()` gives, and the source's own table, in pieces."""


def open_source(source: Source, definition: SurveyDefinition, settings: Settings) -> StampSource:
    """The supply that a source's definition describes."""
    match source:
        case SimulatedSource():
            from tasks.ingest.simulated import SimulatedGalaxies  # GalSim is slow to import, and not always needed

            return SimulatedGalaxies(source, definition.stamp_size, tuple(definition.bands))
        case ImagesSource():
            from tasks.ingest.images import ImageFolder

            return ImageFolder(source, definition, settings)
        case BricksSource():
            from tasks.ingest.bricks import Bricks

            return Bricks(source, definition, settings)
        case LegacySurveysSource():
            from tasks.ingest.cutout_service import CutoutService

            return CutoutService(source, definition, settings)
        case SteinSource():
            from tasks.ingest.stein import SteinStamps

            return SteinStamps(source, definition, settings)
        case Galaxy10Source():
            from tasks.ingest.galaxy10 import Galaxy10

            return Galaxy10(source, definition, settings)
        case MultimodalSource():
            from tasks.ingest.multimodal import MultimodalUniverse

            return MultimodalUniverse(source, definition, settings)


def fingerprint(survey: SurveyDefinition, settings: Settings) -> dict[str, str]:
    """What of the outside world a survey depends on, by name: its sources' and its label tables.

    Raises
    ------
    GalaxyError
        If a catalogue or an image folder is missing.
    """
    prints: dict[str, str] = {}
    for source in survey.sources:
        if source.kind == "simulated":  # it depends on nothing, and need not be opened to say so
            continue
        prints |= open_source(source, survey, settings).fingerprint()
    for name in sorted({table.catalogue for table in survey.labels if table.catalogue}):
        prints[name] = table_digest(expand(name, settings))
    return dict(sorted(prints.items()))
