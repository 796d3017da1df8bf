"""Stamps cut from a survey's coadded tiles, such as the Legacy Surveys' bricks: each tile is opened once for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from galaxy_models.photometry import ZERO_POINT
from infra.remote import file_system, is_url, join
from infra.settings import Settings
from tasks.ingest.cut import Cut
from tasks.ingest.fingerprint import table_digest
from tasks.ingest.source_kinds import BricksSource
from tasks.ingest.source_table import Batch, SourceTable
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tile_files import Plane, TileFiles, UnreadableError
from tasks.ingest.tiles import TileTable
from tasks.ingest.tractor import KEY, add_columns, key_columns
from tasks.stamps.halves import to_half
from tasks.stamps.stamp import Refusal, Stamp

SCALE_TOLERANCE = 0.01
"""Relative difference between the pixel scale of a tile and that of the definition."""

FETCHES = 8
"""Files that are fetched over a connection at once; those of the next tile come while this one is cut."""

Content = bytes | None | UnreadableError
"""Of a remote file: what came, None where there is no such file, or why it cannot be used."""

Contents = Mapping[str, Content]

LARGEST_HALF = 65504.0
"""Of float16."""

ZERO_POINT_TOLERANCE = 0.01
"""Magnitudes."""


class _UnfitError(Exception):
    """A tile is not what the definition says."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Bricks:
    """Cuts each object from the tile that covers its surroundings best."""

    def __init__(self, source: BricksSource, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        more = KEY if source.tractor else ()
        names = [source.tile_column]
        self.table = SourceTable(source.name, source.catalogue, source.columns, definition, settings, more, names)
        self.bands = tuple(definition.bands)
        self.stamp_size = definition.stamp_size
        self.keep_invvar = definition.invvar
        self.root = expand(source.root, settings)
        self._tiles_place = "" if source.tile_column else _below(self.root, expand(source.tiles, settings))

    def rows(self) -> pd.DataFrame:
        """`object_id`, `ra`, `dec`, `field`, and `file`: the name of the tile, None where there is none.

        Where the table of tiles tells them also `psf_size_<band>`, `depth_<band>` and `ebv`; with a Tractor join its
        keys.
        """
        return pd.concat(batch.rows for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """See Streaming."""
        for cells in self.table.batches():
            yield Batch(self._rows(cells), cells)

    def _rows(self, cells: pd.DataFrame) -> pd.DataFrame:
        source = self.source
        rows = self.table.rows(cells)
        if source.tile_column:
            names = cells[source.tile_column]
            rows = rows.assign(file=names.astype(object).where(names.notna(), None))
            return self._with_keys(rows, cells, None)
        tiles = self._tiles
        best = tiles.best(
            rows["ra"].to_numpy(), rows["dec"].to_numpy(), source.tile_side, self.stamp_size, source.pixel_scale
        )
        observed = tiles.observed(best, self.bands).set_index(rows.index)
        rows = rows.assign(file=pd.Series(tiles.names[best], index=rows.index).where(best >= 0, None))
        return self._with_keys(pd.concat([rows, observed], axis=1), cells, tiles)

    def files(self) -> None:
        """See StampSource: which tiles there are is found out when they are opened."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: the tables. The tiles of a data release never change; other ones have another root."""
        prints = {self.source.catalogue: table_digest(self.table.place)}
        if self._tiles_place:
            prints[self.source.tiles] = table_digest(self._tiles_place)
        return prints

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each row, tile by tile.

        Raises
        ------
        GalaxyError
            If a remote file cannot be had.
        OSError
            If the disk fails.
        """
        answers: list[Stamp | Refusal | None] = [None] * len(rows)
        names = rows["file"].reset_index(drop=True)
        places = names.groupby(names).indices
        for place in np.flatnonzero(names.isna()):
            answers[place] = Refusal("no tile covers it", state="no_coverage")
        for tile, contents in self._fetched(list(names.dropna().unique())):
            here = places[tile]
            for place, answer in zip(here, self._cut(tile, rows.iloc[here], contents), strict=True):
                answers[place] = answer
        if self.source.tractor:
            return add_columns(self.source, self._files, rows, [answer for answer in answers if answer is not None])
        return [answer for answer in answers if answer is not None]

    def _with_keys(self, rows: pd.DataFrame, cells: pd.DataFrame, tiles: TileTable | None) -> pd.DataFrame:
        if not self.source.tractor:
            return rows
        return pd.concat([rows, key_columns(cells, tiles, rows["file"])], axis=1)

    @cached_property
    def _tiles(self) -> TileTable:
        return TileTable(self._tiles_place, self.source.tile_columns, self.table.what)

    @cached_property
    def _files(self) -> TileFiles:
        system, path = file_system(self.root)
        return TileFiles(system, path, self.root)

    def __getstate__(self) -> dict[str, Any]:
        """What another process is sent: nothing open, no tables."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_files", "_tiles")}

    def _names(self, tile: str) -> dict[str, str]:
        """Files of a tile: `mask`, and `image` and `invvar` with the band."""
        source = self.source
        names = {"mask": source.mask.format(tile=tile)} if source.mask else {}
        for band in self.bands:
            known = {"tile": tile, "band": source.band_names.get(band, band)}
            names[f"image {band}"] = source.image.format(**known)
            if source.invvar:
                names[f"invvar {band}"] = source.invvar.format(**known)
        return names

    def _fetched(self, tiles: list[str]) -> Iterator[tuple[str, Contents]]:
        """Each tile with its remote files, those of the next one on their way; local ones are left where they are."""
        if self._files.are_local:
            yield from ((tile, {}) for tile in tiles)
            return
        with ThreadPoolExecutor(FETCHES) as pool:

            def start(tile: str) -> tuple[str, dict[str, Future[Content]]]:
                return tile, {name: pool.submit(self._fetch, name) for name in self._names(tile).values()}

            started = map(start, tiles)
            under_way = deque(islice(started, 2))
            while under_way:
                tile, futures = under_way.popleft()
                yield tile, {name: future.result() for name, future in futures.items()}
                under_way.extend(islice(started, 1))

    def _fetch(self, name: str) -> Content:
        try:
            return self._files.fetch(name)
        except UnreadableError as error:
            return error

    def _cut(self, tile: str, rows: pd.DataFrame, contents: Contents) -> Sequence[Stamp | Refusal]:
        """Answers for the rows of one tile."""
        ra, dec = (rows[name].to_numpy(np.float64) for name in ("ra", "dec"))
        try:
            with ExitStack() as opened:
                planes = {
                    key: opened.enter_context(self._open(name, contents)) for key, name in self._names(tile).items()
                }
                return self._stamps(tile, planes, ra, dec)
        except FileNotFoundError as error:
            self._files.need_root()
            answer = Refusal("no coverage", state="no_coverage", detail=f"there is no {error.filename or error}")
        except UnreadableError as error:
            answer = Refusal("unreadable tile", detail=str(error))
        except _UnfitError as error:
            answer = Refusal(error.reason, detail=error.detail)
        return [answer] * len(rows)

    def _open(self, name: str, contents: Contents) -> AbstractContextManager[Plane]:
        content = contents.get(name)
        if isinstance(content, UnreadableError):
            raise content
        if content is None and name in contents:
            raise FileNotFoundError(name)
        return self._files.open(name, content)

    def _stamps(self, tile: str, planes: dict[str, Plane], ra: np.ndarray, dec: np.ndarray) -> list[Stamp | Refusal]:
        shape = (len(ra), len(self.bands), self.stamp_size, self.stamp_size)
        images = np.zeros(shape, np.float16)
        invvar = np.zeros(shape, np.float32) if self.keep_invvar else None
        covered = np.ones((len(ra), *shape[2:]), bool)
        fits = np.ones(len(ra), bool)
        for channel, band in enumerate(self.bands):
            plane = planes[f"image {band}"]
            cut = Cut(*plane.positions(ra, dec), self.stamp_size, plane.shape)
            factor = self._nanomaggies(plane)
            image = plane.pixels(cut)
            weights = self._weight(planes.get(f"invvar {band}"), plane, cut)
            for place, square in enumerate(cut.squares):  # stamp by stamp: its pixels stay in the processor's cache
                pixels = np.asarray(image[square.source], np.float32)
                weight = None if weights is None else np.asarray(weights[square.source], np.float32)
                has_data = _with_data(pixels, weight)
                if has_data is not None:
                    pixels = np.where(has_data, pixels, np.float32(0))
                pixels = pixels * factor
                images[place, channel][square.target] = to_half(pixels)
                if invvar is not None and weight is not None:
                    weight = weight if has_data is None else np.where(has_data, weight, np.float32(0))
                    invvar[place, channel][square.target] = weight / factor**2
                if has_data is not None or square.overlap < 1:
                    here = np.zeros(shape[2:], bool)
                    here[square.target] = True if has_data is None else has_data
                    covered[place] &= here
                extreme = max(pixels.max(initial=0), -pixels.min(initial=0))
                fits[place] &= extreme <= LARGEST_HALF
        coverage = covered.mean(axis=(1, 2))
        columns = {"pixel_scale": [plane.pixel_scale] * len(ra), "coverage": coverage.tolist()}
        if "mask" in planes:
            columns["mask_fraction"] = self._masked(planes["mask"], ra, dec).tolist()
        own = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [
            self._answer(tile, images[i], None if invvar is None else invvar[i], own[i], bool(fits[i]))
            for i in range(len(ra))
        ]

    def _answer(
        self, tile: str, image: np.ndarray, invvar: np.ndarray | None, columns: dict[str, float], fits: bool
    ) -> Stamp | Refusal:
        if columns["coverage"] == 0:
            return Refusal("no coverage", state="no_coverage", detail=f"tile {tile} has no data there")
        if not fits:
            detail = f"tile {tile}: brighter than {LARGEST_HALF:g} nanomaggies a pixel"
            return Refusal("pixels out of range", detail=detail)
        return Stamp(image, columns, invvar)

    def _nanomaggies(self, plane: Plane) -> np.float32:
        """What a unit of an image is, nanomaggies; raises _UnfitError for a tile that is not as the definition says."""
        source, header = self.source, plane.header
        if abs(plane.pixel_scale / source.pixel_scale - 1) > SCALE_TOLERANCE:
            detail = f'{plane.name} has {plane.pixel_scale:.4g} "/px, the definition {source.pixel_scale:g}'
            raise _UnfitError("pixel scale does not fit", detail)
        if not plane.is_upright:
            raise _UnfitError("tile is turned", f"{plane.name}: its rows do not go west to east with north up")
        if abs(float(header.get("MAGZERO", source.zero_point)) - source.zero_point) > ZERO_POINT_TOLERANCE:
            detail = f"{plane.name} has MAGZERO {header['MAGZERO']}, the definition {source.zero_point:g}"
            raise _UnfitError("zero point does not fit", detail)
        seconds = 1.0
        if source.exposure_key:
            seconds = float(header.get(source.exposure_key, 0))
            if not seconds > 0:
                raise _UnfitError("no exposure time", f"{plane.name} has no {source.exposure_key} above 0")
        return np.float32(10 ** ((ZERO_POINT - source.zero_point) / 2.5) / seconds)

    def _weight(self, plane: Plane | None, image: Plane, cut: Cut) -> np.ndarray | None:
        """Inverse variance, of the image's shape, where the cut needs it."""
        if plane is None:
            return None
        if plane.shape != image.shape:
            raise UnreadableError(f"{plane.name} is {plane.shape}, {image.name} is {image.shape}")
        return plane.pixels(cut)

    def _masked(self, plane: Plane, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """(n,) share of each stamp that the mask marks as a defect."""
        cut = Cut(*plane.positions(ra, dec), self.stamp_size, plane.shape)
        bits = plane.pixels(cut)
        defects = [np.count_nonzero(bits[square.source] & self.source.mask_bits) for square in cut.squares]
        return np.array(defects) / self.stamp_size**2


def _with_data(pixels: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
    """Which pixels hold data: finite, and with some weight, or not exactly zero; None if all do, which is seen fast."""
    if weight is not None:
        has_data = (weight > 0) & np.isfinite(pixels)
        return None if has_data.all() else has_data
    if (pixels != 0).all() and np.isfinite(pixels.sum()):
        return None
    return np.isfinite(pixels) & (pixels != 0)


def _below(root: str, name: str) -> str:
    """A path or URL as it is, or a relative path below the root."""
    return name if is_url(name) or name.startswith("/") else join(root, name)
