"""What of the outside world a survey definition depends on, so that a changed catalogue is a new dataset."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from infra.errors import GalaxyError
from infra.settings import SKY_VARIABLE, Settings
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import IMAGE_SUFFIXES


def fingerprint(survey: SurveyDefinition, settings: Settings) -> dict[str, str]:
    """SHA-256 of every table that the definition names, and of names, sizes and times of every folder's images.

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
    prints = {name: _digest(name, Path(expand(name, settings))) for name in sorted(set(named))}
    folders = sorted({source.folder for source in survey.sources if source.kind == "images"})
    return {**prints, **{name: _listing(Path(expand(name, settings))) for name in folders}}


def _listing(folder: Path) -> str:
    """Digest of what tells a changed image: reading all of them would cost as much as the ingest that is skipped."""
    images = [path for path in folder.rglob("*") if path.name.lower().endswith(IMAGE_SUFFIXES)]
    states = [(path.relative_to(folder).as_posix(), path.stat()) for path in images]
    files = sorted((name, state.st_size, state.st_mtime_ns) for name, state in states)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _digest(name: str, path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise GalaxyError(
            f"cannot read the catalogue {path}: {error.strerror}; correct {name!r} in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None
