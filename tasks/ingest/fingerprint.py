"""Digests of what of the outside world a survey depends on, so that a changed catalogue is a new dataset."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from infra.errors import GalaxyError
from infra.remote import file_system, is_local, persistently, shown
from infra.settings import SKY_VARIABLE
from infra.stage_folder import canonical_digest
from tasks.ingest.table_batches import hats_files
from tasks.ingest.table_file import table_file
from tasks.ingest.tables import IMAGE_SUFFIXES, kind_of_table


def table_digest(place: str) -> str:
    """SHA-256 of a table's bytes; of a remote one that tells a checksum, size and checksum as told.

    Raises
    ------
    GalaxyError
        If it cannot be read.
    """
    members = None if kind_of_table(place) else hats_files(place)
    if members is not None:
        return canonical_digest([[name.removeprefix(place), table_digest(name)] for name in members])
    system, path = file_system(place)
    try:
        told = {} if is_local(system) else persistently(lambda: system.info(path), place)
        if told.get("ETag"):
            return f"{told['size']} bytes, ETag {told['ETag']}"
        with table_file(place) as name, open(name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise GalaxyError(
            f"cannot read the catalogue {shown(place)}: {reason}; correct it in the survey definition, "
            f"or set {SKY_VARIABLE} to where the images are"
        ) from None


def listing_digest(folder: Path) -> str:
    """Digest of what tells a changed image: reading all of them would cost as much as the ingest that is skipped."""
    images = [path for path in folder.rglob("*") if path.name.lower().endswith(IMAGE_SUFFIXES)]
    states = [(path.relative_to(folder).as_posix(), path.stat()) for path in images]
    files = sorted((name, state.st_size, state.st_mtime_ns) for name, state in states)
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
