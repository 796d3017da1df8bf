"""One immutable part of a dataset, while it is being made: create, load shards in any order, finalise."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infra.stage_folder import canonical_digest
from tasks.stamps import ledger
from tasks.stamps.content import TableDigest, row_digest
from tasks.stamps.errors import IncompletePartError, StampContractError, StampStoreError
from tasks.stamps.layout import StampLayout, describe_group
from tasks.stamps.plain_shard import shard_buffer, shard_bytes, state_bytes
from tasks.stamps.row_groups import (
    Pieces,
    as_table,
    common_schema,
    read_parquet,
    read_row_groups,
    to_parquet,
    write_pieces,
    write_row_groups,
)
from tasks.stamps.stamp import FAILED, NO_COVERAGE, PENDING, STATES, VALID, Refusal, Stamp
from tasks.stamps.statistics import merge, stamp_sums
from tasks.stamps.storage import Storage, open_storage

SCHEMA_VERSION = 1
PART, PLAN, REFUSED = "part.json", "plan.parquet", "refused.parquet"
CATALOGUE, QUARANTINE, PROOF = "catalog.parquet", "quarantine.parquet", "proof.json"
QUARANTINE_COLUMNS = ("kind", "source", "object_id", "table", "state", "reason", "detail")

ROWS_AT_ONCE = 20_000
"""Rows that are finalised together; shards may be small, and a table costs its time whatever its length."""

Read = Callable[[pd.DataFrame], Sequence[Stamp | Refusal]]
"""Takes rows of the plan, gives a stamp or a refusal for each, in order."""


Complete = Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]]


class Part:
    """A part that is being made. Every method may be called again after a kill."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        content = json.loads(storage.read(PART) or b"null")
        if content is None:
            raise IncompletePartError(f"no stamp part at {storage.location}; run the ingest stage")
        self.identity: str = content["identity"]
        self.counts: dict[str, int] = content["counts"]
        self.source_columns: dict[str, dict[str, str]] = content["source_columns"]
        layout = content["layout"]
        self.layout = StampLayout(**{**layout, "bands": tuple(layout["bands"])})

    @classmethod
    def open(cls, root: Path | str) -> Part:
        """A part that was created; raises IncompletePartError if there is none."""
        return cls(open_storage(root))

    @classmethod
    def exists(cls, root: Path | str) -> bool:
        """Whether the part was created to the end."""
        return open_storage(root).read(PART) is not None

    @classmethod
    def create(
        cls,
        root: Path | str,
        layout: StampLayout,
        plan: Pieces,
        refused: pd.DataFrame,
        counts: dict[str, int],
        attributes: dict[str, Any],
        identity: str,
        source_columns: dict[str, dict[str, str]] | None = None,
    ) -> Part:
        """Make an empty part; what an unfinished creation left is removed.

        Parameters
        ----------
        plan
            Rows in their order, as long as the layout says.
        refused
            Rows, and labels, that were refused beforehand, with QUARANTINE_COLUMNS.
        counts
            `input`: objects that the sources named; `refused`: those of them that are not in the plan.
        attributes
            What the group says about itself: JSON values.
        identity
            Digest of what the plan was made from.
        source_columns
            Source to the plan's columns that are its own, and their types.
        """
        storage = open_storage(root)
        storage.delete_tree()
        layout.create(storage, {**attributes, "schema_version": SCHEMA_VERSION, "units": layout.units})
        write_pieces(storage, PLAN, plan, layout.shard)
        storage.write(REFUSED, to_parquet(refused))
        content = {
            "schema_version": SCHEMA_VERSION,
            "identity": identity,
            "layout": asdict(layout),
            "counts": counts,
            "source_columns": source_columns or {},
        }
        storage.write(PART, json.dumps(content, sort_keys=True, indent=2).encode())
        return cls(storage)

    def pending(self) -> list[int]:
        """Shards that are not in the ledger."""
        done = set(ledger.recorded(self.storage))
        return [shard for shard in range(self.layout.shards) if shard not in done]

    def plan(self, shard: int) -> pd.DataFrame:
        """The planned rows of one shard."""
        return read_row_groups(self.storage, PLAN, [shard])

    def load(self, shards: Sequence[int], read: Read) -> list[ledger.ShardRecord]:
        """Read the stamps of some shards at once, and write shard by shard: each object whole, the ledger last.

        Raises
        ------
        StampContractError
            If the source gives another number, shape, type, or pixels that are not finite.
        StampStoreError
            If the part is finalised.
        """
        if self.storage.read(PROOF) is not None:
            raise StampStoreError(f"{self.storage.location} is finalised, and a finalised part never changes")
        plans = [self.plan(shard) for shard in shards]
        rows = pd.concat(plans, ignore_index=True)
        answers: list[Stamp | Refusal] = list(read(rows))
        if len(answers) != len(rows):
            raise StampContractError(
                f"shards {', '.join(map(str, shards))}: {len(rows)} rows were asked for, {len(answers)} answers came"
            )
        records = []
        for shard, plan in zip(shards, plans, strict=True):
            records.append(self._write(shard, plan, answers[: len(plan)]))
            del answers[: len(plan)]  # their memory is wanted
        return records

    def outcomes(self, most_reasons: int = 5) -> dict[str, tuple[int, int, list[str]]]:
        """Source to its rows, those that are valid, and why others are not: some reasons with an example each.

        Raises
        ------
        IncompletePartError
            If a shard is missing.
        """
        rows: Counter[str] = Counter()
        valid: Counter[str] = Counter()
        reasons: dict[str, dict[str, str]] = {}
        for record in self._records():
            table = self._outcomes([record])[["state", "reason", "detail"]]
            for source, mine in table.groupby(self.plan(record.shard)["source"].to_numpy(object)):
                rows[str(source)] += len(mine)
                valid[str(source)] += int((mine["state"] == STATES[VALID]).sum())
                known = reasons.setdefault(str(source), {})
                for reason, detail in zip(mine["reason"], mine["detail"], strict=True):
                    if isinstance(reason, str) and len(known) < most_reasons:
                        known.setdefault(reason, f"{reason} ({detail})")
        return {source: (rows[source], valid[source], list(reasons[source].values())) for source in rows}

    def finalise(self, complete: Complete) -> dict[str, Any]:
        """Prove that every row is accounted for, write catalogue, quarantine and statistics, and give the proof.

        Parameters
        ----------
        complete
            Takes plan and outcomes of some rows; gives their catalogue and further rows for the quarantine. It is
            called for all rows in turn, twice.

        Raises
        ------
        IncompletePartError
            If a shard is missing, or the rows do not add up.
        """
        finished = self.storage.read(PROOF)
        if finished is not None:
            return dict(json.loads(finished))
        records = self._records()
        self.storage.sweep()
        schema = common_schema(catalogue for catalogue, _, _ in self._completed(records, complete))
        counted: Counter[str] = Counter()
        quarantine = [read_parquet(self.storage, REFUSED)]
        pixels, columns = hashlib.sha256(), TableDigest(schema)

        def tables() -> Iterator[pa.Table]:
            for catalogue, outcomes, further in self._completed(records, complete):
                counted.update(catalogue["state"].tolist())
                quarantine.extend([_failed(catalogue, outcomes), further])
                pixels.update(b"".join(outcomes["content"]))
                table = as_table(catalogue, schema)
                columns.update(table)
                yield table

        with self.storage.writing(CATALOGUE) as file:
            write_row_groups(file, schema, tables(), self.layout.shard)
            states = self._account(records, counted)
        refused = [table[list(QUARANTINE_COLUMNS)].astype(object) for table in quarantine]
        self.storage.write(QUARANTINE, to_parquet(pd.concat(refused, ignore_index=True)))
        statistics = merge((record.statistics for record in records), self.layout.bands)
        describe_group(self.storage, statistics=statistics)
        proof = {
            "input": self.counts["input"],
            "refused": self.counts["refused"],
            "states": states,
            "shards": len(records),
            "statistics": statistics,
            "digest": self._digest(pixels.hexdigest(), columns.hexdigest()),
        }
        self.storage.write(PROOF, json.dumps(proof, sort_keys=True, indent=2).encode())
        return proof

    def _completed(
        self, records: Sequence[ledger.ShardRecord], complete: Complete
    ) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
        """Some shards at a time: rows of the catalogue, what became of each, and further rows for the quarantine."""
        learned = {name for record in records for name in pq.read_schema(self._outcome_file(record)).names}
        at_once = max(1, ROWS_AT_ONCE // self.layout.shard)
        for first in range(0, len(records), at_once):
            some = records[first : first + at_once]
            outcomes = self._outcomes(some)
            for name in sorted(learned.difference(outcomes.columns)):
                outcomes[name] = None  # an object, which has no type yet
            catalogue, further = complete(self._merged([record.shard for record in some], outcomes))
            if len(catalogue) != len(outcomes):
                raise IncompletePartError(
                    f"shards {some[0].shard} to {some[-1].shard} of {self.storage.location}: {len(outcomes)} rows came "
                    f"in, {len(catalogue)} are in the catalogue; nothing is published"
                )
            yield catalogue, outcomes, further

    def _write(self, shard: int, rows: pd.DataFrame, answers: Sequence[Stamp | Refusal]) -> ledger.ShardRecord:
        arrays, state, outcomes = self._collect(rows, answers)
        summed = stamp_sums(arrays["images"][: len(rows)])
        self._need_finite(rows["object_id"], summed.total)
        self.storage.delete(ledger.record_key(shard))
        keys = self.layout.objects(shard)
        objects = {
            keys[name]: ledger.put(self.storage, keys[name], *shard_bytes(pixels, self.layout))
            for name, pixels in arrays.items()
        }
        objects[keys["state"]] = ledger.put(self.storage, keys["state"], state_bytes(state, self.layout))
        outcome_key = ledger.outcome_key(shard)
        objects[outcome_key] = ledger.put(self.storage, outcome_key, to_parquet(outcomes))
        states = np.bincount(state, minlength=len(STATES))
        record = ledger.ShardRecord(
            shard=shard,
            rows=len(rows),
            objects=objects,
            states={name: int(states[code]) for code, name in enumerate(STATES)},
            statistics=summed.by_band(state == VALID, self.layout.bands),
        )
        ledger.write_record(self.storage, record)
        return record

    def _collect(
        self, rows: pd.DataFrame, answers: Sequence[Stamp | Refusal]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, pd.DataFrame]:
        images = shard_buffer(self.layout, len(rows), "images")
        invvar = shard_buffer(self.layout, len(rows), "invvar") if self.layout.invvar else None
        state = np.full(len(rows), PENDING, np.uint8)
        outcomes: list[dict[str, Any]] = []
        for place, (object_id, answer) in enumerate(zip(rows["object_id"], answers, strict=True)):
            if isinstance(answer, Refusal):
                state[place] = NO_COVERAGE if answer.state == "no_coverage" else FAILED
                columns: dict[str, Any] = {}
                reason, detail = answer.reason, answer.detail
            else:
                self._check(object_id, answer)
                images[place] = answer.image
                if invvar is not None and answer.invvar is not None:
                    invvar[place] = answer.invvar
                state[place] = VALID
                columns, reason, detail = answer.columns, None, None
            pixels = (images[place],) if invvar is None else (images[place], invvar[place])
            fixed = {"object_id": object_id, "state": STATES[state[place]], "reason": reason, "detail": detail}
            outcomes.append({**columns, **fixed, "content": row_digest(*pixels)})
        arrays = {"images": images} if invvar is None else {"images": images, "invvar": invvar}
        return arrays, state, pd.DataFrame(outcomes)

    def _check(self, object_id: str, stamp: Stamp) -> None:
        if stamp.image.shape != self.layout.stamp_shape or stamp.image.dtype != self.layout.dtype:
            raise StampContractError(
                f"object {object_id}: stamp is {stamp.image.shape} {stamp.image.dtype}, "
                f"the store holds {self.layout.stamp_shape} {self.layout.dtype}"
            )

    def _need_finite(self, object_ids: pd.Series, totals: np.ndarray) -> None:
        for object_id in object_ids[~np.isfinite(totals).all(axis=1)]:
            raise StampContractError(
                f"object {object_id}: stamp has NaN or infinite pixels; the source must refuse such an image"
            )

    def _records(self) -> list[ledger.ShardRecord]:
        records = [ledger.read_record(self.storage, shard) for shard in range(self.layout.shards)]
        missing = [shard for shard, record in enumerate(records) if record is None]
        if missing:
            raise IncompletePartError(
                f"{len(missing)} of {len(records)} shards of {self.storage.location} are not loaded, "
                f"the first is {missing[0]}; run ingest again, it loads what is missing"
            )
        found = [record for record in records if record is not None]
        for record in found:
            for key in record.objects:
                ledger.check_size(self.storage, record, key)
        return found

    def _outcome_file(self, record: ledger.ShardRecord) -> io.BytesIO:
        return io.BytesIO(ledger.read_verified(self.storage, record, ledger.outcome_key(record.shard)))

    def _outcomes(self, records: Sequence[ledger.ShardRecord]) -> pd.DataFrame:
        """What became of each row of some shards; a column that only some have is missing in the others."""
        tables = [pq.read_table(self._outcome_file(record)) for record in records]
        return pa.concat_tables(tables, promote_options="permissive").to_pandas()

    def _merged(self, shards: Sequence[int], outcomes: pd.DataFrame) -> pd.DataFrame:
        plan = read_row_groups(self.storage, PLAN, shards)
        if plan["object_id"].tolist() != outcomes["object_id"].tolist():
            told = f"shards {shards[0]} to {shards[-1]} of {self.storage.location}"
            raise IncompletePartError(f"{told} do not hold the planned objects")
        learned = outcomes.drop(columns=["object_id", "reason", "detail", "content"])
        both = [name for name in learned if name in plan]
        for name in both:  # what was read from the image wins over what the table said
            learned[name] = learned[name].where(learned[name].notna(), plan[name])
        return pd.concat([plan.drop(columns=both), learned], axis=1)

    def _account(self, records: Sequence[ledger.ShardRecord], counted: Counter[str]) -> dict[str, int]:
        states = {name: sum(record.states[name] for record in records) for name in STATES}
        accounted = sum(states.values()) - states["pending"] + self.counts["refused"]
        if (
            accounted != self.counts["input"]
            or counted.total() != self.layout.rows
            or any(counted[name] != number for name, number in states.items())
        ):
            raise IncompletePartError(
                f"{self.storage.location}: {self.counts['input']} rows came in, {accounted} are accounted for "
                f"({states}, {self.counts['refused']} refused), {counted.total()} are in the catalogue; "
                f"nothing is published"
            )
        return states

    def _digest(self, pixels: str, catalogue: str) -> str:
        return canonical_digest(
            {
                "schema_version": SCHEMA_VERSION,
                "units": self.layout.units,
                "bands": list(self.layout.bands),
                "stamp_size": self.layout.stamp_size,
                "pixels": pixels,
                "catalogue": catalogue,
            }
        )


def _failed(catalogue: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Rows without a stamp, as a piece of the quarantine."""
    bad = (outcomes["state"] != STATES[VALID]).to_numpy()
    return outcomes.loc[bad, ["object_id", "state", "reason", "detail"]].assign(
        kind="object", source=catalogue.loc[bad, "source"].to_numpy(), table=None
    )
