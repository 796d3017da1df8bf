"""Opens one image file, guarded against what may be wrong with it."""

from __future__ import annotations

import errno
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales
from PIL import Image, UnidentifiedImageError

from tasks.ingest.resample import kept_side
from tasks.stamps.stamp import Refusal

LARGEST_IMAGE = 64_000_000
"""Pixels. A larger picture would decode to more memory than a stamp can be worth."""

LARGEST_PIXEL_SCALE = 10.0
"""Arcsec per pixel."""

PICTURE_MODES = ("RGB", "RGBA", "L", "P", "CMYK")
"""Eight bits a channel; others are not display pictures."""


def open_picture(path: Path, keep: float, size: int) -> tuple[Image.Image, float] | Refusal:
    """A decoded RGB picture, and how many pixels of the file one of its pixels spans along a side.

    A JPEG much larger than the stamp is decoded at a fraction of its size, which its format makes
    cheap, but never at less than twice the stamp's resolution.

    Raises
    ------
    OSError
        If the disk fails, not the image: another attempt may read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
        with picture:
            width, height = picture.size
            if width * height > LARGEST_IMAGE:
                return Refusal("image too large", detail=f"{path.name} is {width} x {height} px")
            if picture.mode not in PICTURE_MODES:
                return Refusal("not an 8-bit picture", detail=f"{path.name} has mode {picture.mode}")
            shrink = 2 * size / kept_side(width, height, keep)
            if picture.format == "JPEG" and shrink < 1:
                picture.draft("RGB", (round(width * shrink), round(height * shrink)))
            # 1 unless drafted; along the shorter side, by which the stamp is cut
            span = min(width, height) / min(picture.size)
            return picture.convert("RGB"), span
    except FileNotFoundError as error:
        return _absent(path, error)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Refusal("image too large", detail=path.name)
    except UnidentifiedImageError:
        return Refusal("unreadable image", detail=f"{path.name} is not a picture")
    except (OSError, SyntaxError, ValueError) as error:
        _raise_if_disk(error)
        truncated = "truncated" in str(error) or "EOF" in str(error)
        return Refusal("truncated image" if truncated else "unreadable image", detail=f"{path.name}: {error}")


@dataclass(frozen=True)
class Fluxes:
    """What a FITS file holds.

    Attributes
    ----------
    planes
        (C, H, W) float32.
    pixel_scale
        "/px, None without a usable WCS.
    bands
        As the header names them, None if it does not.
    """

    planes: np.ndarray
    pixel_scale: float | None
    bands: str | None


def open_fluxes(path: Path) -> Fluxes | Refusal:
    """The first image in a FITS file.

    Raises
    ------
    OSError
        If the disk fails, not the image: another attempt may read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # old PC keywords are understood all the same
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            with fits.open(path, memmap=False) as file:
                for unit in file:
                    if unit.is_image and unit.header.get("NAXIS", 0) >= 2:
                        return _planes(path, unit)
        return Refusal("unreadable image", detail=f"{path.name} has no image")
    except FileNotFoundError as error:
        return _absent(path, error)
    except AstropyUserWarning as error:
        return Refusal("truncated image", detail=f"{path.name}: {error}")
    except Exception as error:  # decompressors raise errors of kinds of their own
        _raise_if_disk(error)
        return Refusal("unreadable image", detail=f"{path.name}: {error}")


def _absent(path: Path, error: FileNotFoundError) -> Refusal:
    """Refuse a file that is not there; without its folder it is the disk that is gone, and the error goes on."""
    if not path.parent.is_dir():
        raise error
    return Refusal("no image file", detail=path.name)


def _raise_if_disk(error: Exception) -> None:
    """Let an error of the operating system go on, which may pass; a decoder's own errors have no number."""
    if not is_files_fault(error):
        raise error


def is_files_fault(error: Exception) -> bool:
    """Whether an error is the file's, and not the operating system's: those have a number, and may pass."""
    # EINVAL: a damaged file sent its decoder to an offset before its start; the others: this file may not be read
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL, errno.EACCES, errno.EPERM)


def _planes(path: Path, unit: fits.ImageHDU) -> Fluxes | Refusal:
    header = unit.header
    pixels = 1
    for axis in range(1, header["NAXIS"] + 1):
        pixels *= header[f"NAXIS{axis}"]
    if pixels == 0:
        return Refusal("unreadable image", detail=f"{path.name} has an axis without pixels")
    if header["NAXIS"] > 3 or pixels > LARGEST_IMAGE:
        return Refusal("image too large", detail=f"{path.name} has {header['NAXIS']} axes and {pixels} pixels")
    declared = str(header.get("BUNIT", "nanomaggy")).strip().lower()
    if declared not in ("nanomaggy", "nanomaggies", "nmgy", "nanomaggy/pix", ""):
        return Refusal("not in nanomaggies", detail=f"{path.name} has BUNIT {declared!r}")
    planes = np.asarray(unit.data, np.float32)
    bands = header.get("BANDS")
    return Fluxes(planes[None] if planes.ndim == 2 else planes, _pixel_scale(header), bands and str(bands).strip())


def _pixel_scale(header: fits.Header) -> float | None:
    if "CTYPE1" not in header:
        return None
    try:
        scales = proj_plane_pixel_scales(WCS(header).celestial)  # degrees
    except (ValueError, TypeError, KeyError):
        return None
    scale = float(np.mean(scales)) * 3600 if len(scales) == 2 else 0.0
    return scale if 0 < scale <= LARGEST_PIXEL_SCALE else None  # a WCS without a scale gives a degree or nothing
