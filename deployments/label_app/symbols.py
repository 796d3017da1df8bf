"""Pictures of the schematic symbols that a search can be begun with."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from fastapi import APIRouter, HTTPException, Response
from PIL import Image

from deployments.label_app.security import KnownPerson
from galaxy_models.symbols import draw_symbol, known_symbols

router = APIRouter()

SIDE = 96
"""Pixels."""

A_DAY = "private, max-age=86400"


@router.get("/symbols/{name}.png")
def symbol_picture(name: str, person: KnownPerson) -> Response:
    """A symbol, light on dark."""
    if name not in known_symbols():
        raise HTTPException(404, f"there is no symbol {name[:60]!r}")
    return Response(_drawn(name), media_type="image/png", headers={"Cache-Control": A_DAY})


@cache
def _drawn(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * draw_symbol(name, SIDE)[0]).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
