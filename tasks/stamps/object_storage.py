"""A stamp store in object storage, such as s3://bucket/folder, through fsspec."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from infra.remote import file_system, join, shown
from tasks.stamps.storage import Buffer, Storage, Version, joined

log = logging.getLogger(__name__)


class ObjectStorage(Storage):
    """Objects below a URL. Each is written by one request, or a multipart upload that shows only when it is whole."""

    def __init__(self, url: str) -> None:
        self.location = url
        self._system, self._root = file_system(url)

    def read(self, key: str) -> bytes | None:
        """See Storage."""
        try:
            return cast(bytes, self._system.cat_file(self._path(key)))
        except FileNotFoundError:
            return None

    def view(self, key: str) -> bytes | None:
        """See Storage: a download."""
        return self.read(key)

    def open(self, key: str) -> IO[bytes]:
        """See Storage."""
        return cast(IO[bytes], self._system.open(self._path(key), "rb"))

    def write(self, key: str, *pieces: Buffer) -> None:
        """See Storage."""
        self._system.pipe_file(self._path(key), joined(pieces))

    @contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """See Storage: through a file of this machine, so that a failure uploads nothing."""
        with tempfile.NamedTemporaryFile() as file:
            yield cast(IO[bytes], file)
            file.flush()
            self._system.put_file(file.name, self._path(key))

    def version(self, key: str) -> Version | None:
        """See Storage."""
        try:
            found = self._system.info(self._path(key))
        except FileNotFoundError:
            return None
        if found["type"] != "file":
            return None
        return found["size"], str(found.get("ETag") or found.get("mtime") or found.get("created"))

    def delete(self, key: str) -> None:
        """See Storage."""
        try:
            self._system.rm_file(self._path(key))
        except FileNotFoundError:
            return

    def delete_tree(self) -> None:
        """See Storage."""
        try:
            self._system.rm(self._root, recursive=True)
        except FileNotFoundError:
            return

    def names(self, key: str) -> list[str]:
        """See Storage."""
        try:
            paths = self._system.ls(self._path(key), detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def sweep(self) -> None:
        """End multipart uploads below the root that killed writers left: nobody sees them, but they are paid for."""
        if not hasattr(self._system, "call_s3"):
            return
        bucket, prefix, _ = self._system.split_path(self._root)
        try:
            found = self._system.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
        except (OSError, NotImplementedError) as error:  # it takes a permission of its own, and is no more than tidy
            log.info("unfinished uploads below %s were not looked for: %s", shown(self.location), error)
            return
        for upload in found.get("Uploads", []):
            self._system.call_s3(
                "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )

    def _path(self, key: str) -> str:
        return join(self._root, key)
