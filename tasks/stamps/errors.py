"""What can be wrong with a stamp store. Each message names the shard or key and what to do."""

from __future__ import annotations

from infra.errors import GalaxyError


class StampStoreError(GalaxyError):
    """The store cannot do what was asked."""


class LostShardError(StampStoreError):
    """A shard that the ledger lists is not there. Zarr alone would read it as zeros."""


class DamagedShardError(StampStoreError):
    """A shard is shorter, longer or other than when it was written."""


class IncompletePartError(StampStoreError):
    """A part was to be finalised, or read, before all of its rows were accounted for."""


class StampContractError(StampStoreError):
    """A source handed over a stamp of another shape, type or number than the store was made for."""
