"""Schematic symbols: one line drawing for each answer of the Galaxy Zoo tree and each class of our tables.

Every class has one canonical name, which `prompts` shares; other spellings lead to it. A filled,
fading body means smooth, an outline means a disk, and a dashed part is one that is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import drawing as d
from .drawing import Drawing

TIGHT, MEDIUM, LOOSE = np.deg2rad(11.0), np.deg2rad(19.0), np.deg2rad(32.0)
"""Pitch angles of spiral arms. Galaxies have about 5 to 40 degrees."""


class UnknownClassError(ValueError):
    """A class for which there is neither symbol nor sentence; the message names those that exist."""


def _spiral(count: int = 2, pitch: float = MEDIUM, bulge: float = 0.17) -> Drawing:
    return d.blob(bulge) + d.arms(count, pitch, start=max(0.22, bulge + 0.04))


def _barred(length: float, width: float) -> Drawing:
    return d.bar(length, width) + d.arms(2, MEDIUM, start=length, end=0.88) + d.blob(0.15)


def _disk(bulge: float) -> Drawing:
    """A face-on disk whose bulge has a given radius; a dashed ring stands for a bulge that is absent."""
    centre = d.blob(bulge) if bulge else d.dashed(d.ring(0.2), dash=2)
    return d.ring(0.85) + centre


def _edge_on(bulge: Drawing) -> Drawing:
    return d.edge_on() + bulge


def _pair(apart: float = 0.42) -> Drawing:
    left = d.placed(d.ellipse(0.5, 0.33) + d.blob(0.13), (-apart, -0.08), 0.9, angle=0.7)
    right = d.placed(d.ellipse(0.5, 0.33) + d.blob(0.13), (apart, 0.08), 0.9, angle=-0.7)
    return left + right


def _tails() -> Drawing:
    return d.tail((-0.7, 0.2), (-0.9, 0.75), (-0.2, 0.92)) + d.tail((0.7, -0.2), (0.9, -0.75), (0.2, -0.92))


def _clumps() -> Drawing:
    places = ((-0.45, 0.2, 0.2), (0.1, 0.45, 0.15), (0.4, -0.05, 0.24), (-0.1, -0.3, 0.18), (0.05, 0.05, 0.13))
    across = [-0.8, -0.6, -0.15, 0.1, 0.45, 0.8, 0.6, 0.75, 0.2, -0.1, -0.35, -0.7, -0.8]
    up = [0.1, 0.55, 0.45, 0.8, 0.5, 0.3, -0.15, -0.45, -0.4, -0.7, -0.35, -0.4, 0.1]
    outline = d.Line(np.stack([across, up], axis=1))
    return [outline, *(mark for x, y, r in places for mark in d.blob(r, (x, y), ink=0.6))]


def _bent_disk(strength: float) -> Drawing:
    """A disk whose one side is pulled out; the more so, the stronger it is disturbed."""
    turn = np.linspace(0, 2 * np.pi, 49)
    pull = 1 + strength * np.exp(-(((turn - 0.6) / 0.5) ** 2)) - 0.35 * strength * np.exp(-(((turn - 3.4) / 0.6) ** 2))
    points = 0.55 * pull[:, None] * np.stack([np.cos(turn), 0.75 * np.sin(turn)], axis=1)
    points[-1] = points[0]
    return [d.Line(points), *d.blob(0.15)]


def _question_mark(size: float = 0.42) -> Drawing:
    hook = d.arc(0.5, np.pi / 4, 0.75 * np.pi, (0.0, 0.45), width=0.18)
    stem = [d.Line(np.array([(0.0, -0.05), (0.0, -0.4)]), 0.18), *d.blob(0.13, (0.0, -0.8))]
    return d.placed(hook + stem, size=size, pen=size)


def _late_clumps() -> Drawing:
    return [mark for x, y in ((0.1, 0.5), (-0.1, -0.5), (0.45, 0.25), (-0.45, -0.25)) for mark in d.blob(0.07, (x, y))]


RECIPES: dict[str, Callable[[], Drawing]] = {
    # Smooth or featured, and how rounded.
    "smooth": lambda: d.glow(0.8, 0.65),
    "featured": lambda: d.ellipse(0.85, 0.68) + _spiral(2, MEDIUM, 0.14)[1:] + d.bar(0.3, 0.13),
    "artifact": lambda: d.blob(0.2) + d.spikes(0.9, width=0.05) + d.placed(d.spikes(0.5, width=0.04), angle=np.pi / 4),
    "round_smooth": lambda: d.ring(0.7) + d.glow(0.7, 0.7),
    "in_between_smooth": lambda: d.ellipse(0.85, 0.5) + d.glow(0.85, 0.5),
    "cigar_smooth": lambda: d.ellipse(0.9, 0.22) + d.glow(0.9, 0.22),
    "elliptical": lambda: d.ellipse(0.8, 0.6, width=0.03) + d.ellipse(0.55, 0.41, width=0.03) + d.glow(0.5, 0.38),
    # Disks seen from the side.
    "edge_on_disk": lambda: _edge_on([]),
    "edge_on_rounded_bulge": lambda: _edge_on(d.blob(0.27)),
    "edge_on_boxy_bulge": lambda: _edge_on(d.blob(0.3, flattening=0.75, corner=7.0)),
    "edge_on_no_bulge": lambda: _edge_on(d.dashed(d.ring(0.3, width=0.045), dash=2)),
    "dust_lane": lambda: [d.Area((0.0, 0.0), (0.9, 0.3), corner=1.5), *d.blob(0.34), *d.lane(0.95, 0.1)],
    # Disks seen face-on.
    "face_on_disk": lambda: d.ellipse(0.85, 0.6) + d.ellipse(0.5, 0.35, width=0.035) + d.blob(0.12),
    "lenticular": lambda: d.ellipse(0.88, 0.45) + d.glow(0.88, 0.45)[:1] + d.blob(0.3, flattening=0.8),
    "spiral": lambda: _spiral(),
    "no_spiral": lambda: d.ring(0.85) + d.blob(0.17) + d.dashed(d.arms(2, MEDIUM, 0.25, 0.72, width=0.045), dash=2),
    "early_spiral": lambda: _spiral(2, TIGHT, 0.33),
    "late_spiral": lambda: _spiral(2, LOOSE, 0.09) + _late_clumps(),
    "tight_spiral": lambda: _spiral(2, TIGHT),
    "medium_spiral": lambda: d.ring(0.92, width=0.03) + _spiral(2, MEDIUM),
    "loose_spiral": lambda: _spiral(2, LOOSE),
    "one_arm": lambda: _spiral(1),
    "two_arms": lambda: _spiral(2, np.deg2rad(24.0)),
    "three_arms": lambda: _spiral(3, np.deg2rad(24.0)),
    "four_arms": lambda: _spiral(4, np.deg2rad(26.0)),
    "many_arms": lambda: _spiral(7, np.deg2rad(32.0)),
    "unclear_arms": lambda: d.dashed(d.arms(3, np.deg2rad(24.0), 0.45)) + _question_mark(),
    "bar": lambda: d.ring(0.85) + d.bar(0.6, 0.17) + d.blob(0.15),
    "strong_bar": lambda: _barred(0.6, 0.22),
    "weak_bar": lambda: _barred(0.38, 0.09),
    "no_bar": lambda: d.ring(0.85) + d.blob(0.15) + d.dashed(d.ellipse(0.62, 0.13, width=0.045), dash=2),
    "barred_spiral": lambda: d.bar(0.45, 0.15) + d.arms(2, np.deg2rad(15.0), start=0.45, end=0.9) + d.blob(0.15),
    # How large the bulge is.
    "no_bulge": lambda: _disk(0.0),
    "small_bulge": lambda: _disk(0.14),
    "moderate_bulge": lambda: _disk(0.26),
    "large_bulge": lambda: _disk(0.42),
    "dominant_bulge": lambda: _disk(0.62),
    # Company and disturbance.
    "undisturbed": lambda: d.ring(0.5) + d.glow(0.5, 0.5) + d.dashed(_tails()),
    "minor_disturbance": lambda: _bent_disk(0.45),
    "major_disturbance": lambda: _bent_disk(1.0) + d.tail((-0.5, -0.2), (-0.75, -0.7), (-0.1, -0.85)),
    "merger": lambda: _pair(),
    "tidal_debris": lambda: (
        d.ellipse(0.5, 0.38)
        + d.blob(0.14)
        + d.tail((-0.45, 0.15), (-0.8, 0.8), (0.1, 0.85))
        + d.tail((0.5, -0.1), (0.9, -0.4), (0.7, -0.85))
    ),
    "merger_with_debris": lambda: d.placed(_pair() + _tails(), size=0.95),
    "disturbed": lambda: _bent_disk(0.9) + d.blob(0.1, (-0.65, 0.55)),
    "overlapping": lambda: (
        d.placed(d.ellipse(0.6, 0.6) + d.blob(0.12), (-0.28, 0.0))
        + d.placed([d.Area((0, 0), (0.5, 0.5), ink=0.0), *d.ellipse(0.5, 0.5), *d.blob(0.1)], (0.4, -0.15))
    ),
    # Odd things.
    "ring": lambda: d.ring(0.78, width=0.13) + d.blob(0.2),
    "no_ring": lambda: d.blob(0.2) + d.dashed(d.ring(0.78, width=0.06), dash=2),
    "lens_arc": lambda: (
        d.glow(0.32, 0.27) + d.arc(0.75, 0.6, 0.75, width=0.11) + d.arc(0.62, 0.6 + np.pi, 0.2, width=0.12)
    ),
    "irregular": lambda: _clumps(),
    "odd": lambda: d.ring(0.85) + _question_mark(0.6),
}
"""Canonical class name to its drawing."""


ALIASES: dict[str, str] = {
    "round": "round_smooth",
    "completely_round": "round_smooth",
    "in_between": "in_between_smooth",
    "in_between_round_smooth": "in_between_smooth",
    "cigar": "cigar_smooth",
    "cigar_shaped": "cigar_smooth",
    "cigar_shaped_smooth": "cigar_smooth",
    "featured_or_disk": "featured",
    "features_or_disk": "featured",
    "star": "artifact",
    "star_or_artifact": "artifact",
    "edge_on": "edge_on_disk",
    "not_edge_on": "face_on_disk",
    "face_on": "face_on_disk",
    "edge_on_with_bulge": "edge_on_rounded_bulge",
    "edge_on_without_bulge": "edge_on_no_bulge",
    "rounded_bulge": "edge_on_rounded_bulge",
    "boxy_bulge": "edge_on_boxy_bulge",
    "spiral_arms": "spiral",
    "tight": "tight_spiral",
    "medium": "medium_spiral",
    "loose": "loose_spiral",
    "tight_arms": "tight_spiral",
    "medium_arms": "medium_spiral",
    "loose_arms": "loose_spiral",
    "unbarred_tight_spiral": "tight_spiral",
    "unbarred_loose_spiral": "loose_spiral",
    "more_than_four_arms": "many_arms",
    "more_arms": "many_arms",
    "cant_tell_arms": "unclear_arms",
    "obvious_bulge": "moderate_bulge",
    "just_noticeable_bulge": "small_bulge",
    "merging": "merger",
    "both": "merger_with_debris",
    "merging_and_debris": "merger_with_debris",
    "merging_with_debris": "merger_with_debris",
    "neither": "undisturbed",
    "not_merging": "undisturbed",
    "lens": "lens_arc",
    "arc": "lens_arc",
    "lens_or_arc": "lens_arc",
    "other": "odd",
}
"""Other spellings of a class, as tables of the field have them."""

GALAXY_ZOO_TREE: dict[str, dict[str, str]] = {
    "smooth-or-featured": {"smooth": "smooth", "featured-or-disk": "featured", "artifact": "artifact"},
    "disk-edge-on": {"yes": "edge_on_disk", "no": "face_on_disk"},
    "has-spiral-arms": {"yes": "spiral", "no": "no_spiral"},
    "bar": {"strong": "strong_bar", "weak": "weak_bar", "no": "no_bar"},
    "bulge-size": {
        "dominant": "dominant_bulge",
        "large": "large_bulge",
        "moderate": "moderate_bulge",
        "small": "small_bulge",
        "none": "no_bulge",
    },
    "how-rounded": {"round": "round_smooth", "in-between": "in_between_smooth", "cigar-shaped": "cigar_smooth"},
    "edge-on-bulge": {"boxy": "edge_on_boxy_bulge", "none": "edge_on_no_bulge", "rounded": "edge_on_rounded_bulge"},
    "spiral-winding": {"tight": "tight_spiral", "medium": "medium_spiral", "loose": "loose_spiral"},
    "spiral-arm-count": {
        "1": "one_arm",
        "2": "two_arms",
        "3": "three_arms",
        "4": "four_arms",
        "more-than-4": "many_arms",
        "cant-tell": "unclear_arms",
    },
    "merging": {
        "none": "undisturbed",
        "minor-disturbance": "minor_disturbance",
        "major-disturbance": "major_disturbance",
        "merger": "merger",
    },
}
"""Question to answer to class, in the tree's own words (Galaxy Zoo DECaLS, campaign GZD-5)."""


def known_symbols() -> list[str]:
    """The canonical class names, each of which has a symbol."""
    return list(RECIPES)


def canonical_class(name: str) -> str:
    """The canonical name of a class.

    Raises
    ------
    UnknownClassError
        If there is no symbol of that name; the message lists those that exist.
    """
    canonical = ALIASES.get(name, name)
    if canonical not in RECIPES:
        raise UnknownClassError(
            f"no symbol for the class {name!r}; give the class one of these names: {', '.join(known_symbols())}"
        )
    return canonical


def canonical_classes(names: Sequence[str]) -> list[str]:
    """The canonical names of all classes of one table.

    A first word that all of a table's classes share, such as `guide` in `guide_ring` and `guide_bar`, tells tables
    apart and not galaxies: where the names as they are are not all known, it is dropped.

    Raises
    ------
    UnknownClassError
        If a class has no symbol; the message lists those that exist.
    """
    known = [ALIASES.get(name, name) in RECIPES for name in names]
    first_words = {name.split("_", 1)[0] for name in names}
    if not all(known) and len(first_words) == 1 and len(names) > 1:
        names = [name.split("_", 1)[-1] for name in names]
    return [canonical_class(name) for name in names]


def draw_symbol(name: str, size: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """Draw the symbol of a class.

    Parameters
    ----------
    name
        A class, by its canonical name or another spelling.
    size
        Side of the picture, pixels.
    generator
        Source of a jitter in angle (up to 23 degrees), handedness, size, place and thickness of the pen, as
        hands differ; without one the symbol is drawn as it stands in a legend.

    Returns
    -------
    ndarray
        (1, size, size) float32: ink from 0 (paper) to 1.

    Raises
    ------
    UnknownClassError
        If there is no symbol of that name.
    """
    marks = RECIPES[canonical_class(name)]()
    if generator is not None:
        marks = d.placed(
            marks,
            centre=(generator.uniform(-0.06, 0.06), generator.uniform(-0.06, 0.06)),
            size=generator.uniform(0.78, 1.02),
            angle=generator.uniform(-0.4, 0.4),
            mirror=bool(generator.integers(2)),
            pen=generator.uniform(0.7, 1.6),
        )
    return d.render(marks, size)[None]
