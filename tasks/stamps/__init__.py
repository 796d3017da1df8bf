"""The stamp store: parts, shards, ledger, and the torch loader."""
