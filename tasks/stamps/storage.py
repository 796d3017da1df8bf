"""Where a stamp store lies: a tree of objects below one root, on disk or in object storage."""

from __future__ import annotations

import mmap
import os
import posixpath
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from infra.remote import is_url
from infra.stage_folder import write_atomic, writing_atomic

Buffer = bytes | bytearray | memoryview
Version = tuple[int, str]
"""Bytes of an object, and what else tells that it has changed."""


class Storage(ABC):
    """A tree of objects. Keys are relative paths with `/`. An object is whole or absent, whoever is killed when."""

    location: str
    """Path or URL of the root."""

    def where(self, key: str) -> str:
        """Path or URL of an object, for messages and for `open_storage`."""
        return f"{self.location}/{key}"

    def child(self, key: str) -> Storage:
        """The tree below `key`."""
        return open_storage(self.where(key))

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The whole object, or None if there is none."""

    @abstractmethod
    def view(self, key: str) -> bytes | mmap.mmap | None:
        """An object that never changes and is not empty, as cheaply as can be; None if there is none."""

    @abstractmethod
    def open(self, key: str) -> IO[bytes]:
        """The object as a file that can be read from any place; raises FileNotFoundError."""

    @abstractmethod
    def write(self, key: str, *pieces: Buffer) -> None:
        """Write an object, pieces one after the other; it is visible whole, and lasting, when this returns."""

    @abstractmethod
    def writing(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """An object to be written bit by bit; it is visible, whole, after the block, unless that failed."""

    @abstractmethod
    def version(self, key: str) -> Version | None:
        """What tells one state of the object from another, or None if there is no such object."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    @abstractmethod
    def delete_tree(self) -> None:
        """Remove everything."""

    @abstractmethod
    def names(self, key: str) -> list[str]:
        """Sorted names in the folder `key`; none if it does not exist."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what killed writers left unfinished. Only when nobody writes."""


class LocalStorage(Storage):
    """A folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.location = str(root)

    def path(self, key: str) -> Path:
        """The object's file."""
        return self.root / key

    def read(self, key: str) -> bytes | None:
        """See Storage."""
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None

    def view(self, key: str) -> mmap.mmap | None:
        """The object as a buffer that is read when it is touched; writing to it changes nothing on disk."""
        try:
            with self.path(key).open("rb") as file:
                view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            return None
        if hasattr(mmap, "MADV_WILLNEED"):
            view.madvise(mmap.MADV_WILLNEED)  # as a whole: what comes next is in no order
        return view

    def open(self, key: str) -> IO[bytes]:
        """See Storage."""
        return self.path(key).open("rb")

    def write(self, key: str, *pieces: Buffer) -> None:
        """See Storage."""
        write_atomic(self.path(key), *pieces)

    def writing(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """See Storage."""
        return writing_atomic(self.path(key))

    def version(self, key: str) -> Version | None:
        """See Storage."""
        try:
            found = self.path(key).stat()
        except FileNotFoundError:
            return None
        return found.st_size, str(found.st_mtime_ns)

    def delete(self, key: str) -> None:
        """See Storage."""
        self.path(key).unlink(missing_ok=True)

    def delete_tree(self) -> None:
        """See Storage."""
        if self.root.exists():
            shutil.rmtree(self.root)

    def names(self, key: str) -> list[str]:
        """See Storage."""
        try:
            return sorted(os.listdir(self.path(key)))
        except FileNotFoundError:
            return []

    def sweep(self) -> None:
        """See Storage."""
        for leftover in _unfinished(self.root):
            leftover.unlink(missing_ok=True)


def open_storage(location: Path | str, *more: str) -> Storage:
    """The storage at a path or URL, or below it, or with `..` beside it."""
    place = _normal("/".join([str(location).rstrip("/") or "/", *more]))
    if is_url(place):
        from tasks.stamps.object_storage import ObjectStorage  # its libraries are slow to import

        return ObjectStorage(place)
    return LocalStorage(place)


def relative(location: str, root: str) -> str:
    """The path from `root` to another place in the same storage, so that both can be moved together."""
    return posixpath.relpath(*(place.partition("://")[2] or place for place in (location, root)))


def _normal(place: str) -> str:
    """A path or URL without `..`."""
    protocol, mark, path = place.partition("://")
    return f"{protocol}{mark}{posixpath.normpath(path)}" if mark else posixpath.normpath(place)


def _unfinished(root: Path) -> Iterator[Path]:
    yield from root.rglob(".*.tmp")


def joined(pieces: Sequence[Buffer]) -> bytes:
    """The pieces as one, for libraries that take no list."""
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
