"""What of the outside world a survey definition depends on, so that a changed catalogue is a new dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.errors import GalaxyError
from infra.settings import SKY_VARIABLE, Settings
from tasks.ingest.survey import SurveyDefinition, expand


def fingerprint(survey: SurveyDefinition, settings: Settings) -> dict[str, str]:
    """SHA-256 of every catalogue and label table that the definition names, by the name it has there.

    Raises
    ------
    GalaxyError
        If a catalogue or an image folder is missing.
    """
    named = [source.catalogue for source in survey.sources if source.kind == "images"]
    named += [table.catalogue for table in survey.labels if table.catalogue]
    for source in survey.sources:
        if source.kind == "images" and not Path(expand(source.folder, settings)).is_dir():
            raise GalaxyError(
                f"source {source.name}: no folder {expand(source.folder, settings)}; "
                f"correct `folder` in the survey definition, or set {SKY_VARIABLE} to where the images are"
            )
    return {name: _digest(name, Path(expand(name, settings))) for name in sorted(set(named))}


def _digest(name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise GalaxyError(
            f"cannot read the catalogue {path}: {error.strerror}; correct {name!r} in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None
