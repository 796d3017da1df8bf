"""One folder per stage and set of inputs: what makes a stage skippable, resumable and never half done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infra.errors import GalaxyError


def canonical_digest(value: Any) -> str:
    """SHA-256 (hex) of `value` as JSON with sorted keys: equal content, equal digest."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, *pieces: bytes | bytearray | memoryview) -> None:
    """Write `pieces`, one after the other, to `path` so that a reader, or a restart after a kill, sees all or none."""
    with writing_atomic(path) as file:
        for piece in pieces:
            file.write(piece)


@contextmanager
def writing_atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written bit by bit, that is at `path` after the block, or not at all if that failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage for one set of inputs.

    The folder's name holds the digest of the inputs, so other inputs mean another folder and
    the same inputs find the same one. `result.json` is written last and at once: its presence
    means that the stage is done; its absence, that whatever lies there is to be carried on.
    """

    root: Path
    stage: str
    inputs: Mapping[str, Any]

    @property
    def key(self) -> str:
        """First 12 hex digits of the inputs' digest."""
        return canonical_digest({"stage": self.stage, "inputs": dict(self.inputs)})[:12]

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / f"{self.stage}-{self.key}"

    def result(self) -> dict[str, Any] | None:
        """What the stage returned, or None if it is not done."""
        try:
            return dict(json.loads((self.path / "result.json").read_text()))
        except FileNotFoundError:
            return None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the stage as done, with its result (JSON values only)."""
        write_atomic(self.path / "result.json", json.dumps(dict(result), indent=2, sort_keys=True).encode())

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the folder, so that two runs of the same stage never write it at once.

        Raises
        ------
        GalaxyError
            If another process holds it. A killed process holds nothing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / "inputs.json", json.dumps(dict(self.inputs), indent=2, sort_keys=True).encode())
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GalaxyError(
                    f"stage {self.stage}: another run is working in {self.path}; wait for it to end, or stop it"
                ) from None
            yield self.path
