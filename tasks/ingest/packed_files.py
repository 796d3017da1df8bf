"""Files that hold the images of many objects each, by path or URL: which there are, and opening them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.remote import file_system, is_local, join, persistently
from infra.stage_folder import canonical_digest
from tasks.ingest.image_files import is_files_fault

BLOCK_BYTES = 1 << 18
"""Read ahead over a connection: about one image, since the next one that is wanted is seldom near."""

WILDCARD = "*"
"""Makes a name a pattern; a question mark does not, for it may be part of an address."""


class PackedFiles:
    """The files of one source.

    Parameters
    ----------
    what
        How messages call the source.
    folder
        Path or URL.
    patterns
        Names below the folder, or patterns with `*`.
    """

    def __init__(self, what: str, folder: str, patterns: Sequence[str]) -> None:
        self.what = what
        self.folder = folder
        self.patterns = patterns

    @cached_property
    def names(self) -> list[str]:
        """Names of the files, relative to the folder, in order.

        Raises
        ------
        GalaxyError
            If there is none for a pattern.
        """
        system, root = file_system(self.folder)
        found: set[str] = set()
        for pattern in self.patterns:
            if WILDCARD not in pattern:
                found.add(pattern)
                continue
            if is_local(system):
                here = [path.relative_to(root).as_posix() for path in Path(root).glob(pattern) if path.is_file()]
            else:
                paths = persistently(partial(system.glob, join(root, pattern)), self.place(pattern))
                here = [str(path).removeprefix(root.rstrip("/") + "/") for path in paths]
            if not here:
                raise GalaxyError(
                    f"{self.what}: there are no files {pattern} in {self.folder}; correct `folder` or `files` in the "
                    "survey definition"
                )
            found.update(here)
        return sorted(found)

    def place(self, name: str) -> str:
        """Path or URL of a file."""
        return join(self.folder, name)

    def digest(self) -> str:
        """Digest of what tells a changed file: to read terabytes would cost as much as the ingest that is skipped.

        Raises
        ------
        GalaxyError
            If a file is missing.
        """
        return canonical_digest([[name, *self._state(name)] for name in self.names])

    def _state(self, name: str) -> list[Any]:
        system, path = file_system(self.place(name))
        try:
            if is_local(system):
                state = Path(path).stat()
                return [state.st_size, state.st_mtime_ns]
            told = persistently(partial(system.info, path), self.place(name))
        except OSError as error:
            self.refuse(name, error)
        return [told.get("size"), str(told.get("ETag") or told.get("LastModified") or told.get("mtime") or "")]

    @contextmanager
    def open(self, name: str) -> Iterator[str | io.RawIOBase]:
        """A path where the file is local, else a file object that reads over the connection.

        Raises
        ------
        GalaxyError
            If there is no such file, or the server cannot be reached.
        """
        system, path = file_system(self.place(name))
        if is_local(system):
            yield path
            return
        try:
            opened = persistently(partial(system.open, path, "rb", block_size=BLOCK_BYTES), self.place(name))
        except OSError as error:
            self.refuse(name, error)
        if getattr(opened, "size", None) is None:
            raise GalaxyError(
                f"{self.what}: the server of {self.place(name)} does not give parts of files; fetch it, and put its "
                "path into the survey definition"
            )
        with opened, SteadyFile(opened, self.place(name)) as steady:
            yield steady

    def refuse(self, name: str, error: Exception) -> NoReturn:
        """Raise a failing disk's error as it is, since it may be better later, and any other as a GalaxyError."""
        place = self.place(name)
        if isinstance(error, FileNotFoundError):
            raise GalaxyError(
                f"{self.what}: no file {place}; correct it in the survey definition, or bring the file there"
            ) from None
        if isinstance(error, GalaxyError) or not is_files_fault(error):
            raise error
        raise GalaxyError(
            f"{self.what}: cannot read {place}: {error}. It is damaged, not complete, or of another kind: fetch it "
            "again, or leave it out in the survey definition"
        ) from None


class SteadyFile(io.RawIOBase):
    """A remote file for readers that would take a lost connection for damage: every read is tried again."""

    def __init__(self, file: Any, place: str) -> None:
        self._file = file
        self._place = place
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: int(self._file.size)}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or less at the end of the file.

        Raises
        ------
        GalaxyError
            If every attempt fails: never an error that could be taken for damage.
        """

        def read() -> bytes:
            self._file.seek(self._position)  # wherever a failed attempt left it
            return bytes(self._file.read(len(buffer)))

        try:
            content = persistently(read, self._place)
        except OSError as error:
            raise GalaxyError(
                f"{self._place} cannot be read any more: {type(error).__name__}: {error}. What is finished is kept; "
                "see that the file is there, and run again"
            ) from error
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def cells(name: str, count: int) -> pd.Series:
    """What the catalogue's column `file` has for the rows of a file: its name and the row, such as `a.h5#12`."""
    return (f"{name}#" + pd.Series(np.arange(count)).astype(str)).astype(object)


def by_file(file: pd.Series) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The column `file` of some rows, by file: rows of the file in rising order, and where in the column they are."""
    parts = file.astype(object).str.rpartition("#")
    numbers = parts[2].to_numpy(np.int64)
    found = {}
    for name, places in pd.Series(np.arange(len(file))).groupby(parts[0].to_numpy(object)):
        order = np.argsort(numbers[places], kind="stable")
        found[str(name)] = (numbers[places][order], places.to_numpy()[order])
    return found
