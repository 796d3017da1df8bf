"""The ingest stage: from a survey definition to a finished stamp dataset."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version as version_of
from typing import Any

import numpy as np
import pandas as pd

from infra.cluster import open_client
from infra.errors import GalaxyError
from infra.remote import join
from infra.settings import Settings
from infra.stage_folder import canonical_digest
from tasks.ingest.catalogue import complete_catalogue, rows_of_source
from tasks.ingest.delta import compare, find_base
from tasks.ingest.labels import pack_mask
from tasks.ingest.plan import Plan, make_plan
from tasks.ingest.sources import fingerprint, open_source
from tasks.ingest.survey import SurveyDefinition
from tasks.ingest.version import VERSION, Version
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset, publish, unpublish
from tasks.stamps.errors import IncompletePartError
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE, REFUSED, Part
from tasks.stamps.row_groups import Pieces, to_parquet
from tasks.stamps.stamp import VALID, Refusal, Stamp
from tasks.stamps.storage import open_storage

OWN_PART = "parts/0000"

FEW = 20
"""Objects that a newer catalogue may add without a single stamp."""

WHOLE_FILES = ("stein", "galaxy10", "multimodal_universe")
"""Kinds of source whose objects are the rows of their files: other files are another dataset, not a newer catalogue."""

READ_TOGETHER = ("bricks", "galaxy10", "multimodal_universe")
"""Kinds of source whose stamps cost less to read many at a time."""

RUN_BYTES = 600_000_000
"""Pixels that a worker reads from such sources before it writes them."""


def ingest(context: StageContext) -> dict[str, Any]:
    """Read every object of the survey's sources into the stamp store.

    Shards that an earlier run loaded are not loaded again. Killed at any moment and started again, it
    ends with the same digest as an undisturbed run, with any number of workers. Of a newer catalogue only what is
    new or changed is read; what is gone is retired, and the older dataset stays as it is.

    Returns
    -------
    dict
        `dataset` (path or URL), `digest`, `parts` (where they are), `objects` (named by the sources), `accepted`
        (valid stamps), `refused` (reason to number: refused rows, failed images and places without coverage),
        `labels_refused` (reason to number), `quarantine` (Parquet file with each of them); after an older catalogue
        also `delta` (see `Version.counts`).

    Raises
    ------
    GalaxyError
        If a folder, table or column is missing, a worker is lost for good, or the disk is full.
    """
    root = context.store("dataset")
    try:
        version = _open_version(context, root)
        parts = list(version.carried)
        if version.rows:
            part = Part.open(join(root, OWN_PART))
            _load(context, part)
            _need_stamps(part, version)
            part.finalise(partial(complete_catalogue, definition=context.survey))
            parts.append(OWN_PART)
        manifest = publish(root, parts, version.tombstones, family=_family(context))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(root) from error
    dataset = StampDataset.open(root)
    try:
        version.check(dataset)
    except IncompletePartError:
        unpublish(root)
        raise
    quarantine = dataset.quarantine
    dataset.storage.write(QUARANTINE, to_parquet(quarantine))
    kinds = quarantine["kind"]
    return {
        "dataset": root,
        "digest": manifest["digest"],
        "parts": dataset.part_locations,
        "objects": version.counts["input"],
        "accepted": int((dataset.states == VALID).sum()),
        "refused": _count(quarantine.loc[kinds == "object", "reason"]),
        "labels_refused": _count(quarantine.loc[kinds == "label", "reason"]),
        "quarantine": join(root, QUARANTINE),
        **({"delta": dict(version.counts)} if version.carried else {}),
    }


def load_run(run: tuple[int, ...], root: str, definition: SurveyDefinition, settings: Settings) -> tuple[int, ...]:
    """Load some shards of a part, read as one; runs in any process. Returns them."""
    part = Part.open(root)
    part.load(run, partial(_read, definition, settings, part.source_columns))
    return run


def _open_version(context: StageContext, root: str) -> Version:
    """The version that an earlier start planned from the same tables, else a new plan.

    Where an older catalogue of the same survey was ingested before, only the difference is planned.
    """
    storage = open_storage(root)
    identity = canonical_digest({"family": _family(context), "tables": fingerprint(context.survey, context.settings)})
    version = Version.read(storage)
    if version is not None and version.identity == identity and version.is_whole(storage):
        return version
    if version is not None:
        context.progress(0, 1, "the tables have changed since the last start: planning anew")
    unpublish(root)  # first of all: nobody may read a part that is made anew
    storage.delete(VERSION)
    scratch = context.folder / "plan"
    plan = make_plan(context.survey, context.settings, scratch)
    base = find_base(context.folder, root, _family(context))
    delta = None if base is None else compare(base, plan.rows)
    if delta is None:
        version = Version.whole(identity, plan.counts)
        _create_part(context, root, plan, plan.rows, plan.refused, plan.counts)
        storage.delete(REFUSED)
    else:
        version = Version.after(delta, identity, plan.counts["refused"], root)
        note = ", ".join(f"{version.counts[name]} {name}" for name in ("kept", "new", "changed", "retired"))
        context.progress(0, 1, f"a newer catalogue of {delta.base.root}: {note}")
        if version.rows:
            counts = {"input": version.rows, "refused": 0}
            _create_part(context, root, plan, delta.rows, plan.refused.iloc[:0], counts)
        storage.write(REFUSED, to_parquet(plan.refused))
    version.write(storage)
    shutil.rmtree(scratch, ignore_errors=True)
    return version


def _create_part(
    context: StageContext, root: str, plan: Plan, rows: Pieces, refused: pd.DataFrame, counts: dict[str, int]
) -> None:
    layout = StampLayout(
        rows=counts["input"] - counts["refused"],
        bands=tuple(context.survey.bands),
        stamp_size=context.survey.stamp_size,
        units=context.survey.units,
        shard_stamps=context.profile.ingest.shard_stamps,
        chunk_stamps=context.profile.ingest.chunk_stamps,
        invvar=context.survey.invvar,
    )
    attributes = {"definition": context.survey.model_dump(mode="json")}
    Part.create(join(root, OWN_PART), layout, rows, refused, counts, attributes, "", plan.source_columns)


def _family(context: StageContext) -> str:
    """Digest of what two versions of one dataset have in common: all but the catalogues' content.

    The definition names the catalogues, so that a newer one has the name of the older.
    """
    files = {
        source.name: open_source(source, context.survey, context.settings).fingerprint()
        for source in context.survey.sources
        if source.kind in WHOLE_FILES
    }
    return canonical_digest(
        {
            "code": version_of("galaxy-lvm"),
            "survey": context.survey.model_dump(mode="json"),
            "files": files,
            "shard_stamps": context.profile.ingest.shard_stamps,
            "chunk_stamps": context.profile.ingest.chunk_stamps,
        }
    )


def _load(context: StageContext, part: Part) -> None:
    pending, total = part.pending(), part.layout.shards
    done = total - len(pending)
    if done:
        context.progress(done, total, f"{done} of {total} shards were there already")
    if not pending:
        return
    work = partial(load_run, root=part.storage.location, definition=context.survey, settings=context.settings)
    with open_client(context.profile.cluster) as workers:
        for run, _ in workers.map(work, _runs(context, part, pending)):
            done += len(run)
            context.progress(done, total, f"shard {run[-1]}")


def _need_stamps(part: Part, version: Version) -> None:
    """Refuse a source without a single stamp, and forget the plan: most often a path or address is wrong, no object.

    A newer catalogue may add a few objects that have none.
    """
    for source, (rows, valid, reasons) in part.outcomes().items():
        if valid or (version.carried and rows < FEW):
            continue
        open_storage(part.storage.location, "..", "..").delete(VERSION)
        part.storage.delete_tree()
        raise GalaxyError(
            f"source {source}: none of {rows} objects has a stamp: {'; '.join(reasons)}. Correct the survey definition "
            "or bring back what is missing, and run ingest again"
        )


def _runs(context: StageContext, part: Part, pending: Sequence[int]) -> list[tuple[int, ...]]:
    """The pending shards in the pieces that one worker reads at a time.

    Neighbours on the sky come from the same tiles: read together, a tile is opened once for all of them. So are
    chunks and row groups of many compressed images. Other sources gain nothing, and lose less by a kill shard by shard.
    """
    length = 1
    if any(source.kind in READ_TOGETHER for source in context.survey.sources):
        shares = -(-len(pending) // context.profile.cluster.workers)
        length = max(1, min(RUN_BYTES // part.layout.shard_bytes, shares))
    return [tuple(pending[first : first + length]) for first in range(0, len(pending), length)]


def _read(
    definition: SurveyDefinition,
    settings: Settings,
    columns: dict[str, dict[str, str]],
    rows: pd.DataFrame,
) -> list[Stamp | Refusal]:
    """Stamps of rows from several sources, in their order."""
    answers: list[Stamp | Refusal | None] = [None] * len(rows)
    for source in definition.sources:
        places = np.flatnonzero((rows["source"] == source.name).to_numpy())
        if len(places):
            mine = rows_of_source(rows, source.name, columns[source.name])
            found: Sequence[Stamp | Refusal] = open_source(source, definition, settings).read(mine)
            for place, answer in zip(places, found, strict=True):
                answers[place] = _packed(answer)
    return [answer for answer in answers if answer is not None]


def _packed(answer: Stamp | Refusal) -> Stamp | Refusal:
    """The answer with masks as bytes, as the catalogue holds them."""
    if isinstance(answer, Refusal):
        return answer
    columns = {
        name: pack_mask(value) if isinstance(value, np.ndarray) and value.ndim == 2 else value
        for name, value in answer.columns.items()
    }
    return Stamp(answer.image, columns, answer.invvar)


def _count(reasons: pd.Series) -> dict[str, int]:
    return {str(reason): int(number) for reason, number in sorted(reasons.value_counts().items())}


def _disk_full(root: str) -> GalaxyError:
    part = join(root, OWN_PART)
    kept, total = 0, 0
    if Part.exists(part):
        opened = Part.open(part)
        total = opened.layout.shards
        kept = total - len(opened.pending())
    return GalaxyError(
        f"the disk of {root} is full. {kept} of {total or 'all'} shards are complete and kept; nothing is published. "
        "Make room and run ingest again: it carries on from there"
    )
