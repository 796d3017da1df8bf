"""Examples that somebody brings along, as text: names of objects, or positions."""

from __future__ import annotations

from collections.abc import Sequence

import astropy.units as units
from astropy.coordinates import SkyCoord

from deployments.label_app.catalogues import MATCH_ARCSEC, Catalogue
from infra.errors import GalaxyError

MOST_EXAMPLES = 500
LONGEST_TEXT = 60_000


def find_examples(catalogue: Catalogue, text: str) -> list[int]:
    """Rows of the objects that some text names, one a line; each once, in order.

    A line is an object's name as in the catalogue, or right ascension and declination: both in degrees, or in hours and
    degrees with colons.

    Raises
    ------
    GalaxyError
        Names each line that says no galaxy which can be searched, and why.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MOST_EXAMPLES:
        raise GalaxyError(f"{len(lines)} examples were given; at most {MOST_EXAMPLES} are taken")
    rows, refused = list[int](), list[str]()
    for line in lines:
        row, reason = _find(catalogue, line)
        if row is None:
            refused.append(f"{line[:80]!r} {reason}")
        else:
            rows.append(row)
    if refused:
        raise GalaxyError(f"{len(refused)} of {len(lines)} examples cannot be taken: {'; '.join(refused[:5])}")
    return list(dict.fromkeys(rows))


def _find(catalogue: Catalogue, line: str) -> tuple[int | None, str]:
    row = catalogue.row_of(line)
    if row is None:
        position = _position(line.replace(",", " ").split())
        if position is None:
            return None, "is no object of the catalogue, nor a position"
        row = catalogue.row_at(*position)
        if row is None:
            return None, f'has no galaxy within {MATCH_ARCSEC:g}"'
    if not catalogue.searchable[row]:
        return None, "has no usable stamp"
    return row, ""


def _position(words: Sequence[str]) -> tuple[float, float] | None:
    """Degrees of two words, None if they are no position."""
    if len(words) != 2:
        return None
    try:
        hours = units.hourangle if ":" in words[0] else units.deg
        place = SkyCoord(words[0], words[1], unit=(hours, units.deg))
    except (ValueError, TypeError):
        return None
    return float(place.ra.deg), float(place.dec.deg)
