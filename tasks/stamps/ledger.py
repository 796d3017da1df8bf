"""The ledger: one small JSON per shard that says it is done, and what its objects must look like."""

from __future__ import annotations

import json
import mmap
from dataclasses import asdict, dataclass, field
from typing import Any

import google_crc32c

from tasks.stamps.errors import DamagedShardError, LostShardError
from tasks.stamps.storage import Buffer, Storage, Version

FOLDER = "ledger"
CHECKED_BYTES = 1 << 20

_verified: set[tuple[str, Version, str]] = set()  # objects whose checksum this process has seen to be right


@dataclass(frozen=True)
class ShardRecord:
    """What was written for one shard.

    Attributes
    ----------
    objects
        Key of each object to its `bytes` and `crc32c`.
    states
        State to number of rows.
    statistics
        Sums over the valid stamps, by band.
    """

    shard: int
    rows: int
    objects: dict[str, dict[str, Any]]
    states: dict[str, int] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)


def record_key(shard: int) -> str:
    """Key of a shard's record."""
    return f"{FOLDER}/{shard:08d}.json"


def outcome_key(shard: int) -> str:
    """Key of the table of what became of each row of a shard."""
    return f"{FOLDER}/{shard:08d}.parquet"


def write_record(storage: Storage, record: ShardRecord) -> None:
    """Enter a shard into the ledger: the last act of loading it."""
    storage.write(record_key(record.shard), (json.dumps(asdict(record), sort_keys=True) + "\n").encode())


def read_record(storage: Storage, shard: int) -> ShardRecord | None:
    """A shard's record, or None if it is not in the ledger."""
    content = storage.read(record_key(shard))
    return None if content is None else ShardRecord(**json.loads(content))


def recorded(storage: Storage) -> list[int]:
    """Shards in the ledger, in order."""
    return [int(name.removesuffix(".json")) for name in storage.names(FOLDER) if name.endswith(".json")]


def put(storage: Storage, key: str, *pieces: Buffer) -> dict[str, Any]:
    """Write an object, and say how long it is and what its checksum is, as the ledger keeps it."""
    storage.write(key, *pieces)
    return {"bytes": sum(len(piece) for piece in pieces), "crc32c": crc32c(*pieces)}


def crc32c(*pieces: Buffer | mmap.mmap) -> str:
    """CRC-32C (hex) of pieces one after the other: it finds damage, and costs a tenth of a cryptographic digest."""
    value = 0
    for piece in pieces:
        for start in range(0, len(piece), CHECKED_BYTES):
            value = google_crc32c.extend(value, bytes(piece[start : start + CHECKED_BYTES]))
    return f"{value:08x}"


def check_size(storage: Storage, record: ShardRecord, key: str) -> Version:
    """Refuse an object that is gone or has another length than the ledger says; returns its version.

    Raises
    ------
    LostShardError, DamagedShardError
        Both name the object and say how to get it back.
    """
    version = storage.version(key)
    expected = record.objects[key]["bytes"]
    if version is None:
        raise LostShardError(_message(storage, record, key, "is lost"))
    if version[0] != expected:
        raise DamagedShardError(_message(storage, record, key, f"has {version[0]} bytes instead of {expected}"))
    return version


def read_verified(storage: Storage, record: ShardRecord, key: str) -> bytes | mmap.mmap:
    """A view of an object, if it is as it was written: its length each time, its checksum once per process.

    Raises
    ------
    LostShardError, DamagedShardError
        Both name the object and say how to get it back.
    """
    expected = record.objects[key]["crc32c"]
    identity = (storage.where(key), check_size(storage, record, key), expected)
    data = storage.view(key)
    if data is None:
        raise LostShardError(_message(storage, record, key, "is lost"))
    if identity not in _verified:
        if crc32c(data) != expected:
            raise DamagedShardError(_message(storage, record, key, "has another checksum than when it was written"))
        _verified.add(identity)
    return data


def _message(storage: Storage, record: ShardRecord, key: str, trouble: str) -> str:
    return (
        f"stamp shard {record.shard} {trouble}: {storage.where(key)}. Restore it from a copy, or remove the "
        f"ingest stage's folder and run ingest again"
    )
