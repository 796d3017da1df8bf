"""Stamps that a prepared dataset is shown by: some usable ones, and some of each flag, from few shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from galaxy_models.photometry import VIEWER_SCALES, viewer_rgb
from tasks.preprocess.flags import FLAGS, MEASURES_OF_FLAG
from tasks.preprocess.prepared import PreparedDataset

SHARDS = 12
"""A kind of stamps is chosen from at most so many shards: reading is by whole shards."""

MOST = 20
"""Stamps of a kind and source."""


@dataclass(frozen=True)
class Gallery:
    """Chosen rows and their pictures.

    Attributes
    ----------
    usable
        Source to rows without a flag that counts.
    flagged
        Flag to source to rows; without sources that have none.
    pictures
        Row to picture, (3, H, W) uint8.
    """

    usable: Mapping[str, np.ndarray]
    flagged: Mapping[str, Mapping[str, np.ndarray]]
    pictures: Mapping[int, np.ndarray]

    def of_flag(self, name: str, count: int) -> np.ndarray:
        """At most `count` rows of a flag, from its sources in turn."""
        return _in_turn(self.flagged.get(name, {}), count)

    def of_usable(self, count: int) -> np.ndarray:
        """At most `count` usable rows, from their sources in turn."""
        return _in_turn(self.usable, count)


def make_gallery(prepared: PreparedDataset) -> Gallery:
    """Choose stamps by chance, the same ones every time, and read each shard that has some once."""
    table = prepared.columns(["source", "state", "usable", *(f"flag_{name}" for name in FLAGS)])
    valid, source = (table["state"] == "valid").to_numpy(), table["source"].to_numpy(object)
    sources = sorted(map(str, np.unique(source.astype(str))))
    of_source = {name: valid & (source == name) for name in sources}
    usable = table["usable"].to_numpy()
    chosen = {name: choose_rows(prepared, of_source[name] & usable, MOST) for name in sources}
    flagged = {}
    for flag in FLAGS:
        raised = table[f"flag_{flag}"].to_numpy()
        rows = {name: choose_rows(prepared, of_source[name] & raised, MOST) for name in sources}
        flagged[flag] = {name: some for name, some in rows.items() if len(some)}
    every = [*chosen.values(), *(rows for by_source in flagged.values() for rows in by_source.values())]
    return Gallery(chosen, {flag: rows for flag, rows in flagged.items() if rows}, _pictures(prepared, every))


def choose_rows(prepared: PreparedDataset, mask: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """At most `count` rows of a mask (N,) by chance, ascending, from few shards."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return rows
    generator = np.random.default_rng(seed)
    where, _ = prepared.dataset.locate(rows)
    shards = generator.permutation(np.unique(where))[:SHARDS]
    return np.sort(generator.permutation(rows[np.isin(where, shards)])[:count])


def _in_turn(by_source: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    taken = [rows[turn] for turn in range(MOST) for rows in by_source.values() if turn < len(rows)]
    return np.array(taken[:count], np.int64)


def flag_captions(prepared: PreparedDataset, name: str, rows: np.ndarray) -> list[str]:
    """For each of some rows the measures that a flag comes from, in the order of `MEASURES_OF_FLAG`."""
    sky = [f"sky_{band}" for band in prepared.dataset.bands]
    wanted = MEASURES_OF_FLAG[name]
    table = prepared.columns([*(measure for measure in wanted if measure != "sky"), *sky]).iloc[rows]
    table = table.assign(sky=table[sky].max(axis=1))
    return [", ".join(map(_number, line)) for line in table[list(wanted)].to_numpy(float)]


def stamp_pictures(images: np.ndarray, units: str, bands: Sequence[str]) -> np.ndarray:
    """Raw stamps (n, C, H, W) as pictures (n, 3, H, W), RGB in 0..1 float32.

    Fluxes go through the viewer's stretch where three of its bands are there, otherwise their mean is shown in grey.
    """
    if units == "rgb":
        return images.astype(np.float32) / 255
    known = [index for index, band in enumerate(bands) if band in VIEWER_SCALES][-3:]
    fluxes = images.astype(np.float32)
    if len(known) == 3:
        return np.asarray(viewer_rgb(torch.from_numpy(fluxes[:, known]), [bands[index] for index in known]))
    mean = fluxes.mean(axis=1, keepdims=True)
    low, high = np.percentile(mean, (5, 99.5))
    return np.repeat(np.clip((mean - low) / max(high - low, 1e-6), 0, 1), 3, axis=1)


def _pictures(prepared: PreparedDataset, chosen: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    rows = np.unique(np.concatenate([np.zeros(0, np.int64), *chosen]))
    dataset = prepared.dataset
    where, offsets = dataset.locate(rows)
    pictures: dict[int, np.ndarray] = {}
    for shard in np.unique(where):
        here = np.flatnonzero(where == shard)
        images = dataset.read_shard(int(shard))[offsets[here]]
        shown = np.rint(stamp_pictures(images, dataset.units, dataset.bands) * 255).astype(np.uint8)
        pictures.update(zip(rows[here].tolist(), shown, strict=True))
    return pictures


def _number(value: float) -> str:
    decimals = next((places for places, limit in ((2, 1), (1, 10)) if abs(value) < limit), 0)
    return f"{value:,.{decimals}f}"
