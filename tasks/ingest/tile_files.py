"""Images of tiles: FITS files, plain or compressed, opened where they lie or fetched whole over a connection."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_scales

from infra.errors import GalaxyError
from infra.remote import GarbledError, is_local, join, persistently, shown
from tasks.ingest.cut import Cut
from tasks.ingest.image_files import is_files_fault
from tasks.ingest.tables import GZIP, plain

MOST_TURNED = 5.0
"""Degrees between a tile's rows and the east: more, and stamps of neighbouring tiles would not lie alike."""


class UnreadableError(Exception):
    """The file itself is damaged, or is no image: every attempt finds the same."""


@dataclass(frozen=True)
class Plane:
    """One open image of a tile; pixels are read when they are asked for."""

    name: str
    header: fits.Header
    unit: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.header["NAXIS2"], self.header["NAXIS1"]

    @cached_property
    def wcs(self) -> WCS:
        """The celestial coordinate system; raises UnreadableError if there is none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # old PC keywords are understood all the same
            try:
                wcs = WCS(self.header).celestial
                if wcs.naxis != 2:
                    raise ValueError("no celestial axes")
            except (ValueError, TypeError, KeyError) as error:
                raise UnreadableError(f"{self.name} has no coordinate system: {error}") from None
        return wcs

    @cached_property
    def pixel_scale(self) -> float:
        """Arcsec per pixel."""
        return float(np.mean(proj_plane_pixel_scales(self.wcs)) * 3600)

    @property
    def is_upright(self) -> bool:
        """Whether columns go west and rows go north, near enough."""
        matrix = self.wcs.pixel_scale_matrix
        turned = np.degrees(np.arctan2(matrix[1, 0], -matrix[0, 0]))
        return bool(np.linalg.det(matrix) < 0 and abs(turned) <= MOST_TURNED)

    def positions(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates x, y of positions in degrees; the centre of the first pixel is 0."""
        x, y = self.wcs.all_world2pix(ra, dec, 0)
        return np.asarray(x), np.asarray(y)

    def pixels(self, cut: Cut) -> np.ndarray:
        """(H, W) image as it is in those places that the cut's squares show; elsewhere it may be zero.

        Of a compressed image only the pieces under the squares are decompressed, unless the whole is had sooner.

        Raises
        ------
        UnreadableError
            If it cannot be decoded.
        """
        try:
            if not isinstance(self.unit, fits.CompImageHDU):
                return np.asarray(self.unit.data)
            pieces = cut.pieces(self.unit.tile_shape)
            if pieces is None:
                return np.asarray(self.unit.section[:, :])
            image = np.zeros(self.shape, self.unit.section[:1, :1].dtype)
            for piece in pieces:
                image[piece] = self.unit.section[piece]
        except OSError as error:
            raise _read_error(self.name, error) from error
        except Exception as error:  # decompressors raise errors of kinds of their own
            raise UnreadableError(f"{self.name}: {error}") from error
        return image


class TileFiles:
    """The files below a survey's root."""

    def __init__(self, system: Any, root: str, place: str) -> None:
        """Files below `root` of a file system; `place` is its path or URL."""
        self._system = system
        self._root = root
        self._place = shown(place)

    @property
    def are_local(self) -> bool:
        """Whether files are read where they lie."""
        return is_local(self._system)

    def need_root(self) -> None:
        """Raise GalaxyError if the root is a folder that is not there or empty, as on a disk that is not mounted."""
        if self.are_local and not (Path(self._root).is_dir() and any(Path(self._root).iterdir())):
            raise GalaxyError(f"no files in {self._root}; mount it, or correct `root` in the survey definition")

    def fetch(self, name: str) -> bytes | None:
        """The whole of a remote file, whose checksums are right; None if there is none.

        Raises
        ------
        GalaxyError
            If it cannot be had, or the server answers with something else.
        UnreadableError
            If it comes damaged again and again, and always alike: then that is how it lies there.
        """
        seen: list[bytes] = []

        def read() -> bytes:
            content = self._system.cat_file(join(self._root, name))
            seen.append(content)
            check_content(content, name)
            return bytes(content)

        try:
            return persistently(read, join(self._place, name))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise GalaxyError(
                f"{join(self._place, name)} may not be read: {error}. Give credentials that may, for a public bucket "
                "none (AWS_NO_SIGN_REQUEST=YES), and run again"
            ) from error
        except GarbledError as error:
            if looks_like_fits(seen[-1]) and seen[-1:] == seen[-2:-1]:
                raise UnreadableError(str(error)) from None
            raise GalaxyError(
                f"{join(self._place, name)}: {error}, and so at every attempt. What is finished is kept; see that the "
                "server gives FITS files at this address, and run again"
            ) from None

    def read(self, name: str) -> bytes | None:
        """The whole of a file, wherever it is; None if there is none. Errors as of `fetch`."""
        if not self.are_local:
            return self.fetch(name)
        try:
            return Path(join(self._root, name)).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, name: str, content: bytes | None = None) -> Iterator[Plane]:
        """The first image in a file, or in what was fetched of it.

        Raises
        ------
        FileNotFoundError
            If there is none.
        UnreadableError
            If it is no FITS file with an image of two axes.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            try:
                source = join(self._root, name) if content is None else io.BytesIO(plain(content))
                file = fits.open(source, memmap=content is None and not name.endswith(".gz"))
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _read_error(name, error) from error
            except Exception as error:
                raise UnreadableError(f"{name}: {error}") from error
            with file:
                yield _first_image(file, name)


def check_content(content: bytes, name: str) -> None:
    """Refuse what is no whole FITS file, or whose data are not what their checksums say.

    Raises
    ------
    GarbledError
        Says what is wrong.
    """
    if not looks_like_fits(content):
        raise GarbledError(f"{name} is no FITS file, it begins with {content[:20]!r}")
    try:
        content = plain(content)
        # no catch_warnings here: this runs in several threads, and what it changes is everybody's
        with fits.open(io.BytesIO(content), disable_image_compression=True) as file:
            for unit in file:
                place = unit.fileinfo()
                data = content[place["datLoc"] : place["datLoc"] + place["datSpan"]]
                if len(data) != place["datSpan"]:
                    raise GarbledError(f"{name} is cut short")
                if "DATASUM" in unit.header and int(unit.header["DATASUM"]) != data_sum(data):
                    raise GarbledError(f"{name} has other data than its checksum says")
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zlib.error, fits.VerifyError) as error:
        raise GarbledError(f"{name}: {error}") from error
    except AstropyUserWarning as error:
        raise GarbledError(f"{name}: {error}") from error


def looks_like_fits(content: bytes) -> bool:
    """Whether it begins as a FITS file does, or as one that gzip compressed."""
    return content.startswith((b"SIMPLE  =", GZIP))


def data_sum(data: bytes) -> int:
    """The FITS checksum of data: the sum of its 32-bit words in ones' complement (FITS standard 4.0, appendix J)."""
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64))
    while total > 0xFFFFFFFF:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _first_image(file: fits.HDUList, name: str) -> Plane:
    try:
        for unit in file:
            if unit.is_image and unit.header.get("NAXIS", 0) == 2:
                return Plane(name, unit.header, unit)
    except OSError as error:
        raise _read_error(name, error) from error
    except Exception as error:
        raise UnreadableError(f"{name}: {error}") from error
    raise UnreadableError(f"{name} has no image of two axes")


def _read_error(name: str, error: OSError) -> Exception:
    """A failing disk as it is, since it may be better later; anything else is the file's fault."""
    return UnreadableError(f"{name}: {error}") if is_files_fault(error) else error
