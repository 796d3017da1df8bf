"""A table's file on this machine: where it lies, or fetched from afar and seen to have come whole."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from infra.errors import GalaxyError
from infra.remote import GarbledError, file_system, is_local, persistently, shown
from tasks.ingest.tables import GZIP, kind_of_table

PARQUET = b"PAR1"
"""What a Parquet file begins and ends with."""

LOOK_BYTES = 4096
"""A file tells its kind within so many bytes."""

READ_BYTES = 1 << 22


@contextmanager
def table_file(place: str) -> Iterator[str]:
    """Path of a table's file; a remote one is fetched for as long as the context lasts.

    Raises
    ------
    FileNotFoundError, PermissionError
        If a remote one is not there, or may not be read.
    GalaxyError
        If the connection fails, or what comes is no table of its kind, again and again.
    """
    system, path = file_system(place)
    if is_local(system):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=place.rpartition("/")[2]) as file:

        def fetch() -> None:
            told = system.info(path).get("size")
            system.get_file(path, file.name)
            size = os.path.getsize(file.name)
            if told is not None and size != told:
                raise GarbledError(f"{size} bytes came of {told}")
            check_table(file.name, kind_of_table(place))

        try:
            persistently(fetch, place)
        except GarbledError as error:
            raise GalaxyError(
                f"cannot read the catalogue {shown(place)}: {error}, and so at every attempt; see that the server "
                "gives the file itself at this address, and run again"
            ) from None
        yield file.name


def check_table(path: str, kind: str) -> None:
    """Refuse what is no whole file of a kind of table, such as a server's page that asks for patience.

    Raises
    ------
    GarbledError
        Says what is wrong.
    """
    with open(path, "rb") as file:
        compressed = file.read(len(GZIP)) == GZIP
    try:
        with gzip.open(path) if compressed else open(path, "rb") as file:
            begin = end = file.read(LOOK_BYTES)
            while block := file.read(READ_BYTES):  # of a compressed one, the checksum at its end as well
                end = block
    except (EOFError, OSError, zlib.error) as error:
        raise GarbledError(f"what came does not decompress: {error}") from error
    known = {
        "fits": begin.startswith(b"SIMPLE  ="),
        "parquet": begin.startswith(PARQUET) and end.endswith(PARQUET),
        "votable": b"VOTABLE" in begin,
        "csv": b"\0" not in begin and not begin.lstrip().startswith(b"<"),
    }
    if not known.get(kind, True):
        raise GarbledError(f"what came is no {kind} file, it begins with {begin[:20]!r}")
