"""What a cutout service sent, held against what was asked for.

The service clamps sizes and replaces unknown bands without a word (legacysurvey/imagine, map/views.py), so nothing that
it sends is taken on trust. Stamps keep the rows as they come, like files of images: in FITS the first row is the
south, in JPEG the north; east is left in both.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning
from PIL import Image

from infra.remote import GarbledError
from tasks.ingest.images import SCALE_TOLERANCE
from tasks.stamps.stamp import Refusal, Stamp

CENTRE_TOLERANCE = 0.5
"""Pixels between the asked position and the middle of what came."""

BLOCK = 8
"""Side of a JPEG's blocks, pixels."""

FLAT_STEPS, FLAT_LEVEL = 1, 64
"""A block of a picture without data: at most so many steps between its pixels, and no brighter than this. The service
draws places without data as a flux of zero, which its stretch shows as a grey of 32; the noise of a sky that was
observed is many times larger."""

_ONE_AT_A_TIME = threading.Lock()
"""Filters of warnings belong to the whole process: threads that set them at a time would leave them in disorder."""


@dataclass(frozen=True)
class Cutout:
    """What is asked for: a square about a position.

    Attributes
    ----------
    ra, dec
        Degrees.
    size
        Pixels.
    pixel_scale
        "/px.
    bands
        Such as grz.
    invvar
        Whether the inverse variance is wanted too.
    """

    ra: float
    dec: float
    size: int
    pixel_scale: float
    bands: str
    invvar: bool = False


def flux_stamp_of(content: bytes, asked: Cutout) -> Stamp | Refusal:
    """The stamp in an answer of `fits-cutout`, float16 nanomaggies (C, size, size), first row south.

    Its columns are `pixel_scale` and `coverage`, the share of pixels with data in all bands. Without data are, and 0
    become, pixels that are NaN, or whose inverse variance is 0; where that was not asked for, those of 0, which is what
    the service writes where it has nothing.

    Raises
    ------
    GarbledError
        If it is no whole FITS file: another attempt may bring one.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # what is told of a third axis, that of the bands
        warnings.simplefilter("error", AstropyUserWarning)  # truncated, or a header that is not FITS
        return _flux_stamp(content, asked)


def _flux_stamp(content: bytes, asked: Cutout) -> Stamp | Refusal:
    units = _read_fits(content)
    header, planes = units[0]
    if header.get("OVERLAP") is False:
        return Refusal("no coverage", "no_coverage", "the service has no image there")
    if planes is None:
        raise GarbledError("the FITS file has no image")
    scale = _other_image(header, planes, asked) or _scale_there(header, asked)
    if isinstance(scale, Refusal):
        return scale
    invvar = _weights(units[1:], planes) if asked.invvar else None
    if isinstance(invvar, Refusal):
        return invvar
    known = np.isfinite(planes) & (planes != 0 if invvar is None else invvar > 0)
    empty = [band for band, data in zip(asked.bands, known, strict=True) if not data.any()]
    if empty:
        return Refusal("no coverage", "no_coverage", f"no data in {', '.join(empty)}")
    with np.errstate(over="ignore"):  # refused below
        image = np.where(known, planes, 0).astype(np.float16)
    if not np.isfinite(image).all():
        return Refusal("pixels out of range", detail="brighter than 65504 nanomaggies a pixel")
    return Stamp(image, {"pixel_scale": scale, "coverage": float(known.all(axis=0).mean())}, invvar)


def picture_stamp_of(content: bytes, asked: Cutout) -> Stamp | Refusal:
    """The stamp in an answer of `jpeg-cutout`, uint8 RGB (3, size, size), first row north.

    Its columns are `pixel_scale`, as it was asked for, since a picture does not tell, and `coverage`, the share of its
    blocks that are not as flat as only a place without data is.

    Raises
    ------
    GarbledError
        If it is no whole JPEG: another attempt may bring one.
    """
    if not content.startswith(b"\xff\xd8"):
        raise GarbledError(f"no JPEG came: {_beginning(content)}")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.size != (asked.size, asked.size):
                width, height = picture.size
                return Refusal("wrong size", detail=f"{width} x {height} px came, {asked.size} were asked for")
            pixels = np.asarray(picture.convert("RGB"), np.uint8).transpose(2, 0, 1)
            light = np.asarray(picture.convert("L"), np.int16)  # colours are coarser, and run over blocks' edges
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise GarbledError(f"the JPEG is damaged: {error}") from None
    coverage = 1 - float(_flat_blocks(light).mean())
    if coverage == 0:
        return Refusal("no coverage", "no_coverage", "the picture is flat")
    return Stamp(np.ascontiguousarray(pixels), {"pixel_scale": asked.pixel_scale, "coverage": coverage})


def _read_fits(content: bytes) -> list[tuple[fits.Header, np.ndarray | None]]:
    """Header and data of every unit, in memory."""
    if not content.startswith(b"SIMPLE  ="):
        raise GarbledError(f"no FITS file came: {_beginning(content)}")
    try:
        with fits.open(io.BytesIO(content), memmap=False) as file:
            return [(unit.header, None if unit.data is None else np.array(unit.data)) for unit in file]
    except Exception as error:  # astropy raises errors of many kinds at damaged files
        raise GarbledError(f"the FITS file is damaged: {type(error).__name__}: {error}") from None


def _other_image(header: fits.Header, planes: np.ndarray, asked: Cutout) -> Refusal | None:
    """Why the image is not of the bands and the size that were asked for."""
    keys = [header.get("BANDS"), *(header.get(f"BAND{i}") for i in range(len(asked.bands)))]
    if [str(key).strip() for key in keys] != [asked.bands, *asked.bands]:
        came = keys[0] if str(keys[0]).strip() != asked.bands else "/".join(map(str, keys[1:]))
        return Refusal("wrong bands", detail=f"{came} came, {asked.bands} was asked for; the layer may not have them")
    shape = (len(asked.bands), asked.size, asked.size)
    if planes.shape != shape:
        came, wanted = (" x ".join(map(str, axes)) for axes in (planes.shape, shape))
        return Refusal("wrong size", detail=f"{came} came, {wanted} was asked for")
    return None


def _scale_there(header: fits.Header, asked: Cutout) -> float | Refusal:
    """Pixel scale, "/px, of an image of the asked place, north up and east left; or why it is none."""
    try:
        wcs = WCS(header).celestial
        if wcs.naxis != 2:
            raise ValueError("no celestial axes")
        x, y = (float(axis) for axis in wcs.all_world2pix(asked.ra, asked.dec, 0))
        matrix = np.asarray(wcs.pixel_scale_matrix) * 3600
    except Exception as error:  # of many kinds, wcslib's own among them
        return Refusal("no coordinate system", detail=f"{type(error).__name__}: {error}")
    difference = np.abs(matrix / asked.pixel_scale - np.diag([-1.0, 1.0])).max()
    if not difference <= SCALE_TOLERANCE:
        came = ", ".join(f"{value:.4g}" for value in matrix.ravel())
        return Refusal("pixel scale does not fit", detail=f'a CD matrix of {came} "/px for {asked.pixel_scale:g} "/px')
    off = max(abs(x - (asked.size - 1) / 2), abs(y - (asked.size - 1) / 2))
    if not off <= CENTRE_TOLERANCE:
        return Refusal("wrong centre", detail=f"{off:.1f} px from the asked position")
    return float(f"{matrix[1, 1]:.5g}")  # rounded, that all objects have the same


def _weights(units: list[tuple[fits.Header, np.ndarray | None]], planes: np.ndarray) -> np.ndarray | Refusal:
    """The inverse variance among the further units, float32, 0 where the image has no value."""
    for header, data in units:
        if str(header.get("IMAGETYP", "")).strip().upper() == "INVVAR" and data is not None:
            if data.shape != planes.shape:
                break
            with np.errstate(over="ignore"):
                weights = data.astype(np.float32)
            return np.where(np.isfinite(weights) & np.isfinite(planes) & (weights > 0), weights, np.float32(0))
    return Refusal("no inverse variance", detail="none came with the image, or one of another shape")


def _flat_blocks(light: np.ndarray) -> np.ndarray:
    """Which blocks of a grey picture (H, W) are without data; what is left at the edges counts with the last block."""
    rows, columns = (np.arange(0, max(side // BLOCK, 1) * BLOCK, BLOCK) for side in light.shape)
    highest = np.maximum.reduceat(np.maximum.reduceat(light, rows, axis=0), columns, axis=1)
    lowest = np.minimum.reduceat(np.minimum.reduceat(light, rows, axis=0), columns, axis=1)
    return np.asarray((highest - lowest <= FLAT_STEPS) & (highest <= FLAT_LEVEL))


def _beginning(content: bytes) -> str:
    """What an answer that is no image begins with, such as a page that says what is wrong."""
    text = " ".join(content[:200].decode("ascii", "replace").split())
    return f"it begins with {text[:80]!r}" if content else "it is empty"
