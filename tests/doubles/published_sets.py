"""Small copies of published sets of stamps, with the layout, types and defects of the originals and known pixels.

Layouts are those of georgestein/ssl-legacysurvey at 06b250b (load_data.py), of henrysky/Galaxy10 at 677b326 and of
MultimodalUniverse/MultimodalUniverse at 2dcff3d (scripts/ssl_legacysurvey). The same arguments make the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

BANDS = "grz"
NOISE = np.array([0.004, 0.006, 0.015], np.float32)
"""Of a pixel in g, r, z, nanomaggies."""

PIXEL = 0.262
MISSING_REDSHIFT = -99.0


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """What was written.

    Attributes
    ----------
    folder
        Where the files are.
    files
        Their names, in order.
    images
        Every row's image as it was published, whatever the file.
    table
        Every row's columns, with `file` and `row`, the row in the file.
    """

    folder: Path
    files: list[str]
    images: np.ndarray
    table: pd.DataFrame


def draw_fluxes(count: int, size: int, seed: int = 0) -> np.ndarray:
    """(count, 3, size, size) float32 nanomaggies: a galaxy with noise, and a star north-west of it, in no way alike."""
    generator = np.random.default_rng([seed, count, size])
    noise = generator.standard_normal((4, 3, size, size)).astype(np.float32) * NOISE[:, None, None]
    y, x = np.mgrid[:size, :size].astype(np.float32) - np.float32((size - 1) / 2)
    star = np.exp(-((x + size / 4) ** 2 + (y - size / 8) ** 2) / 8)
    images = np.empty((count, 3, size, size), np.float32)
    for number in range(count):
        width, flattening, peak = generator.uniform(3, 8), generator.uniform(0.4, 1), generator.uniform(0.1, 2)
        galaxy = peak * np.exp(-(x**2 * flattening + y**2 / flattening) / (2 * width**2))
        colours = np.array([0.5, 1, 1.4], np.float32) * generator.uniform(0.8, 1.2, 3).astype(np.float32)
        images[number] = galaxy * colours[:, None, None] + star * 0.3 + np.roll(noise[number % 4], number, axis=2)
    return images


def draw_columns(images: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of the survey's catalogue beside some images, with the types that they have there."""
    count = len(images)
    generator = np.random.default_rng([seed, count])
    flux = images.sum(axis=(2, 3), dtype=np.float64).astype(np.float32)
    redshift = generator.uniform(0.01, 0.4, count).astype(np.float32)
    redshift[generator.random(count) < 0.6] = MISSING_REDSHIFT
    return {
        "ra": generator.uniform(0, 360, count),
        "dec": generator.uniform(-15, 30, count),
        "release": np.full(count, 9010, np.int16),
        "brickid": generator.integers(1, 600_000, count, np.int32),
        "objid": generator.integers(0, 9000, count, np.int32),
        "ebv": generator.lognormal(-3.4, 0.67, count).astype(np.float32),
        "flux": flux,
        "fiberflux": flux / 3,
        "psfsize": generator.uniform(1.0, 1.8, (count, 3)).astype(np.float32),
        "psfdepth": generator.uniform(50, 900, (count, 3)).astype(np.float32),
        "nobs": generator.integers(1, 9, (count, 3)).astype(np.int16),
        "source_type": generator.choice([b"DEV", b"EXP", b"REX", b"SER"], count),
        "z_spec": redshift,
        "z_phot_median": np.abs(redshift),
    }


def write_stein(
    folder: Path,
    *,
    rows: Sequence[int] = (24, 20),
    size: int = 152,
    skipped: Sequence[int] = (5, 6, 30),
    doubled: Mapping[int, int] | None = None,
    seed: int = 0,
    chunk: int | None = None,
    starts: Sequence[int] | None = None,
) -> PublishedSet:
    """HDF5 files of Stein et al. (2021), brightest in z first, with their defects in the numbers `inds`.

    Parameters
    ----------
    rows
        Of each file; the survey has a million, and fewer in the last.
    skipped
        Numbers of the list that no row has; the following rows have the next ones.
    doubled
        Row, counted over all files, to the earlier row that it repeats, number and all.
    chunk
        Rows in a compressed chunk of the images; None leaves them in one piece, as in the originals.
    starts
        First row of each file, as its name tells it.
    """
    count = int(sum(rows))
    images = draw_fluxes(count, size, seed)
    images = images[np.argsort(-images[:, 2].sum(axis=(1, 2)), kind="stable")]
    columns = draw_columns(images, seed)
    numbers = [number for number in range(count + len(skipped)) if number not in skipped][:count]
    columns["inds"] = np.array(numbers, np.int64)
    for row, earlier in ({9: 3, 40: 12} if doubled is None else doubled).items():
        images[row] = images[earlier]
        for values in columns.values():
            values[row] = values[earlier]
    folder.mkdir(parents=True, exist_ok=True)
    names, places, first = [], [], 0
    for part, number in enumerate(rows):
        start = first if starts is None else starts[part]
        name = f"images_npix{size}_{start:09d}_{start + number:09d}.h5"
        with h5py.File(folder / name, "w") as file:
            part_rows = slice(first, first + number)
            chunks = None if chunk is None else (min(chunk, number), *images.shape[1:])
            compression = None if chunk is None else "gzip"
            file.create_dataset("images", data=images[part_rows], chunks=chunks, compression=compression)
            for key, values in columns.items():
                file.create_dataset(key, data=values[part_rows])
            file.create_dataset("z_training", data=columns["z_spec"][: number // 2])  # shorter, as some columns are
        names.append(name)
        places += [(name, row) for row in range(number)]
        first += number
    table = pd.DataFrame(_flat(columns)).assign(file=[name for name, _ in places], row=[row for _, row in places])
    return PublishedSet(folder, names, images, table)


def write_galaxy10(
    path: Path, *, count: int = 40, size: int = 256, positions: bool = True, seed: int = 0, pixel_scale: float = PIXEL
) -> PublishedSet:
    """The file of Galaxy10 DECaLS, compressed in chunks that h5py chooses: each holds a corner of many pictures.

    Parameters
    ----------
    positions
        Galaxy10 SDSS, of size 69, has neither positions nor redshifts nor pixel scales.
    """
    generator = np.random.default_rng([seed, count, size])
    coarse = generator.integers(0, 255, (count, 8, 8, 3), np.uint8)
    step = -(-size // 8)
    images = coarse.repeat(step, axis=1).repeat(step, axis=2)[:, :size, :size]
    columns: dict[str, np.ndarray] = {"ans": np.sort(generator.integers(0, 10, count)).astype(np.uint8)}
    if positions:
        redshift = generator.uniform(0, 0.2, count)
        redshift[::7] = np.nan
        scales = np.full(count, pixel_scale)
        columns |= {"ra": generator.uniform(0, 360, count), "dec": generator.uniform(-15, 30, count)}
        columns |= {"redshift": redshift, "pxscale": scales}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, compression="gzip", compression_opts=1)
        for key, values in columns.items():
            file.create_dataset(key, data=values)
    table = pd.DataFrame(columns).assign(file=path.name, row=range(count))
    return PublishedSet(path.parent, [path.name], images, table)


def write_multimodal(
    folder: Path,
    *,
    rows: Sequence[int] = (20, 12),
    size: int = 152,
    row_group: int = 8,
    layout: Literal["list of bands", "bands of lists", "flat"] = "list of bands",
    positions: bool = True,
    invvar: bool = False,
    scale: float = PIXEL,
    bands: Sequence[str] = ("des-g", "des-r", "des-z"),
    seed: int = 0,
) -> PublishedSet:
    """Parquet files of the Multimodal Universe, a folder for each cell of the sky.

    Parameters
    ----------
    layout
        A list of structs; the struct of lists that Hugging Face makes of it; or that with all pixels in one list.
    positions
        Files on Hugging Face have none.
    """
    count = int(sum(rows))
    images = draw_fluxes(count, size, seed)
    columns = draw_columns(images, seed)
    flat = _flat({name: columns[name] for name in ("ra", "dec", "ebv", "flux", "psfdepth", "z_spec")})
    if not positions:
        del flat["ra"], flat["dec"]
    ids = np.random.default_rng(seed).permutation(count * 10)[:count].astype(str)
    names, places, first = [], [], 0
    for part, number in enumerate(rows):
        name = f"healpix={100 + part}/001-of-001.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        part_rows = slice(first, first + number)
        image = _nested(images[part_rows], columns["psfsize"][part_rows], layout, invvar, scale, bands)
        table = {"image": image, "object_id": pa.array(list(ids[part_rows]))}
        table |= {key: pa.array(values[part_rows]) for key, values in flat.items()}
        pq.write_table(pa.table(table), folder / name, row_group_size=row_group, compression="snappy")
        names.append(name)
        places += [(name, row) for row in range(number)]
        first += number
    frame = pd.DataFrame({"object_id": ids, **_flat({"psfsize": columns["psfsize"]}), **flat})
    return PublishedSet(
        folder, names, images, frame.assign(file=[name for name, _ in places], row=[row for _, row in places])
    )


def damage_chunk(path: Path, row: int) -> range:
    """Spoil the chunk of the images that holds a row; gives all rows that it holds."""
    with h5py.File(path) as file:
        images = file["images"]
        length = images.chunks[0]
        begin = row // length * length
        chunks = [images.id.get_chunk_info(number) for number in range(images.id.get_num_chunks())]
        spoilt = next(chunk for chunk in chunks if chunk.chunk_offset[0] == begin)
        held = range(begin, min(begin + length, len(images)))
    _overwrite(path, spoilt.byte_offset, spoilt.size)
    return held


def damage_row_group(path: Path, group: int) -> range:
    """Spoil the pixels of a row group; gives all rows that it holds."""
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        columns = [metadata.row_group(group).column(number) for number in range(metadata.num_columns)]
        pixels = max(columns, key=lambda column: column.total_compressed_size)
        start = pixels.dictionary_page_offset or pixels.data_page_offset
    _overwrite(path, start, pixels.total_compressed_size)
    return range(sum(sizes[:group]), sum(sizes[: group + 1]))


def cut_short(path: Path) -> None:
    """Leave the first half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _overwrite(path: Path, start: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)


def _flat(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Columns with a value for each band as one for each."""
    flat: dict[str, Any] = {}
    for name, values in columns.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            flat |= {f"{name}_{band}": values[:, place] for place, band in enumerate(BANDS)}
    return flat


def _nested(
    images: np.ndarray, seeing: np.ndarray, layout: str, invvar: bool, scale: float, bands: Sequence[str]
) -> pa.Array:
    count, channels, size, _ = images.shape
    total = count * channels

    def lists(values: pa.Array, length: int) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32)), values)

    def planes(pixels: np.ndarray) -> pa.Array:
        values = pa.array(np.ascontiguousarray(pixels).reshape(-1))
        return lists(values, size * size) if layout == "flat" else lists(lists(values, size), size)

    fields = {
        "band": pa.array(list(bands) * count),
        "flux": planes(images),
        "psf_fwhm": pa.array(seeing.reshape(-1)),
        "scale": pa.array(np.full(total, scale, np.float32)),
    }
    if invvar:
        fields["ivar"] = planes(np.broadcast_to((1 / NOISE**2)[:, None, None], images.shape))
    if layout == "list of bands":
        return lists(pa.StructArray.from_arrays(list(fields.values()), list(fields)), channels)
    return pa.StructArray.from_arrays([lists(values, channels) for values in fields.values()], list(fields))
