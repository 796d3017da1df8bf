"""Where stamps come from: what every kind of source can do, and the one for each definition."""

from __future__ import annotations

from typing import Protocol

import pandas as pd

from infra.settings import Settings
from tasks.ingest.survey import ImagesSource, SimulatedSource, SurveyDefinition
from tasks.stamps.stamp import Refusal, Stamp

__all__ = ["Refusal", "Stamp", "StampSource", "open_source"]


class StampSource(Protocol):
    """A supply of stamps. It may be sent to another process, so it holds no open files."""

    def rows(self) -> pd.DataFrame:
        """Every object: `object_id` (unique over all sources), `ra`, `dec` (degrees, NaN unknown), further columns."""

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each of some rows of `rows()`, in order.

        Any rows may be asked for, in any process, again: the answer is always the same.
        """


def open_source(
    source: SimulatedSource | ImagesSource, definition: SurveyDefinition, settings: Settings
) -> StampSource:
    """The supply that a source's definition describes."""
    if isinstance(source, SimulatedSource):
        from tasks.ingest.simulated import SimulatedGalaxies  # GalSim is slow to import, and not always needed

        return SimulatedGalaxies(source, definition.stamp_size, tuple(definition.bands))
    from tasks.ingest.images import ImageFolder

    return ImageFolder(source, definition, settings)
