"""The one place where the store touches disk, so that object storage can come without moving walls."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import zarr.abc.store
from zarr.storage import LocalStore

from infra.errors import GalaxyError
from infra.stage_folder import write_atomic

READ_BYTES = 1 << 22


class Storage:
    """A tree of objects below one root. Keys are relative paths with `/`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the object lies, for libraries that read files."""
        return self.root / key

    def zarr_store(self, key: str, read_only: bool) -> zarr.abc.store.Store:
        """The Zarr group at `key`. An object is written beside its place and renamed: it is whole or absent."""
        return LocalStore(self.root / key, read_only=read_only)

    def read(self, key: str) -> bytes | None:
        """The whole object, or None if there is none."""
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def view(self, key: str) -> mmap.mmap | None:
        """The object as a buffer that is read when it is touched, or None if there is none.

        For objects that never change, and are not empty. Writing to the buffer changes nothing on disk.
        """
        try:
            with (self.root / key).open("rb") as file:
                view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            return None
        if hasattr(mmap, "MADV_WILLNEED"):
            view.madvise(mmap.MADV_WILLNEED)  # as a whole: what comes next is in no order
        return view

    def write(self, key: str, data: bytes) -> None:
        """Write an object that becomes visible whole, and on disk, before this returns."""
        write_atomic(self.root / key, data)

    def version(self, key: str) -> tuple[int, int] | None:
        """Bytes and time of the last change, or None if there is no such object."""
        try:
            found = (self.root / key).stat()
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime_ns

    def sha256(self, key: str) -> str:
        """Checksum (hex) of the object as it lies there."""
        digest = hashlib.sha256()
        with (self.root / key).open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def sync(self, key: str) -> None:
        """Wait until the object would outlast a loss of power."""
        with (self.root / key).open("rb") as file:
            os.fsync(file.fileno())

    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""
        (self.root / key).unlink(missing_ok=True)

    def delete_tree(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)

    def names(self, key: str) -> list[str]:
        """Sorted names in the folder `key`; none if it does not exist."""
        try:
            return sorted(os.listdir(self.root / key))
        except FileNotFoundError:
            return []

    def sweep(self) -> None:
        """Remove what killed writers left unfinished. Only when nobody writes."""
        for leftover in _unfinished(self.root):
            leftover.unlink(missing_ok=True)


def open_storage(location: Path | str) -> Storage:
    """The storage at `location`.

    Raises
    ------
    GalaxyError
        If it is a URL: only local paths are known so far.
    """
    if "://" in str(location):
        raise GalaxyError(f"stamp store {location}: only local paths can be used; give a folder")
    return Storage(Path(location))


def _unfinished(root: Path) -> Iterator[Path]:
    yield from root.rglob("*.partial")
    yield from root.rglob(".*.tmp")
