"""Pictures that somebody uploads as examples: decoded with every guard, and cut to what the model sees."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from infra.errors import GalaxyError

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PICTURES = 8
LARGEST_FILE = 4 * 2**20
"""Bytes."""

LARGEST_SIDE = 4096
SMALLEST_SIDE = 16
"""Pixels."""


def open_uploads(files: Sequence[tuple[str, bytes]], side: int) -> list[Image.Image]:
    """Each file, by its name and content, as `open_upload` gives it; refused if there are too many."""
    if len(files) > MOST_PICTURES:
        raise GalaxyError(f"more than {MOST_PICTURES} pictures were sent; choose the clearest")
    return [open_upload(name, content, side) for name, content in files]


def open_upload(name: str, content: bytes, side: int) -> Image.Image:
    """The central square of an uploaded picture, RGB, resized to a side in pixels.

    Size and format are read from the header before a pixel is decoded: a small file cannot become a large picture.

    Raises
    ------
    GalaxyError
        If it is too large, too small, of another format, or damaged.
    """
    shown = repr(name[:60])
    if len(content) > LARGEST_FILE:
        raise GalaxyError(
            f"the picture {shown} has {len(content) / 2**20:.1f} MiB; at most {LARGEST_FILE >> 20} are taken"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
        with picture:
            width, height = picture.size
            if not SMALLEST_SIDE <= min(width, height) <= max(width, height) <= LARGEST_SIDE:
                raise GalaxyError(
                    f"the picture {shown} is {width} x {height} px; "
                    f"sides of {SMALLEST_SIDE} to {LARGEST_SIDE} are taken"
                )
            picture.load()
            square = min(width, height)
            left, top = (width - square) // 2, (height - square) // 2
            cut = picture.convert("RGB").crop((left, top, left + square, top + square))
            return cut.resize((side, side), Image.Resampling.LANCZOS)
    except GalaxyError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise GalaxyError(f"{shown} is no picture that can be read; send {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise GalaxyError(f"the picture {shown} is damaged: {str(error)[:100]}") from None


def as_png(picture: Image.Image) -> bytes:
    """What is kept of an upload: pixels alone, none of what the file said besides."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def as_stamps(pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """(n, 3, H, W) RGB of pictures of one size, as the store has those of a survey."""
    return np.stack([np.asarray(one, np.uint8).transpose(2, 0, 1) for one in pictures])
