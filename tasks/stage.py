"""What every stage is handed, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.profile import Profile
from infra.progress import Progress
from infra.remote import join
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition

Record = Callable[[int, Mapping[str, float]], None]
"""Takes a step number and the metrics at that step; the run's tracker listens."""


@dataclass(frozen=True)
class StageContext:
    """Everything a stage may depend on.

    Attributes
    ----------
    folder
        The stage's own folder; it keeps what is there after a kill, and the next start carries on.
    upstream
        Result of each stage that this one reads, by stage name.
    """

    survey: SurveyDefinition
    profile: Profile
    settings: Settings
    folder: Path
    upstream: Mapping[str, Mapping[str, Any]]
    progress: Progress
    record: Record

    def store(self, name: str) -> str:
        """Path or URL of what the stage keeps under a name and may be large: in its folder, or in the store."""
        if not self.settings.store:
            return str(self.folder / name)
        return join(self.settings.store, f"{self.folder.parent.name}/{self.folder.name}/{name}")
