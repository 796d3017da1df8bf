"""A small drawing language for schematic galaxies: marks of ink on a square, rendered with soft edges.

The square runs from -1 to 1 in x (right) and y (up), like a stamp centred on a galaxy. A drawing is
a list of marks, painted in order; ink 1 is black, ink 0 erases what lies below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Line:
    """A pen stroke through `points` (P, 2), `width` wide (share of the half side)."""

    points: np.ndarray
    width: float = 0.06
    ink: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled ellipse; `corner` 2 is an ellipse, larger is boxier, smaller more pointed."""

    centre: tuple[float, float]
    semi_axes: tuple[float, float]
    angle: float = 0.0
    ink: float = 1.0
    corner: float = 2.0


Mark = Line | Area
Drawing = list[Mark]


def ellipse(a: float, b: float, **pen: float) -> Drawing:
    """The outline of an ellipse about the centre with semi-axes `a` along x and `b` along y."""
    turn = np.linspace(0, 2 * np.pi, 41)
    return [Line(np.stack([a * np.cos(turn), b * np.sin(turn)], axis=1), **pen)]


def ring(radius: float, flattening: float = 1.0, **pen: float) -> Drawing:
    """A ring about the centre."""
    return ellipse(radius, radius * flattening, **pen)


def blob(radius: float, centre: tuple[float, float] = (0.0, 0.0), flattening: float = 1.0, **fill: float) -> Drawing:
    """A filled spot: a bulge, a star, a clump."""
    return [Area(centre, (radius, radius * flattening), **fill)]


def glow(a: float, b: float) -> Drawing:
    """A body that is brightest (most ink) in the middle and fades outward, as a galaxy without features does."""
    steps = ((1.0, 0.15), (0.75, 0.3), (0.5, 0.5), (0.27, 0.8))
    return [Area((0.0, 0.0), (a * share, b * share), ink=ink) for share, ink in steps]


def arm(phase: float, pitch: float, start: float = 0.2, end: float = 0.85, **pen: float) -> Drawing:
    """A logarithmic spiral arm from radius `start` to `end`.

    Parameters
    ----------
    phase, pitch
        Position angle where it begins and pitch angle, radians; a small pitch winds tightly.
    """
    radius = np.geomspace(start, end, 36)
    angle = phase + np.log(radius / start) / np.tan(pitch)
    return [Line(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), **pen)]


def arms(count: int, pitch: float, start: float = 0.2, end: float = 0.85, **pen: float) -> Drawing:
    """`count` equal arms, evenly spread."""
    return [mark for i in range(count) for mark in arm(2 * np.pi * i / count, pitch, start, end, **pen)]


def bar(length: float, width: float = 0.16, ink: float = 1.0) -> Drawing:
    """A straight bar of half-length `length` through the centre."""
    return [Line(np.array([[-length, 0.0], [length, 0.0]]), width, ink)]


def edge_on(length: float = 0.9, height: float = 0.1) -> Drawing:
    """A thin disk seen from the side: a pointed, filled lens shape."""
    return [Area((0.0, 0.0), (length, height), corner=1.3)]


def lane(length: float, width: float = 0.07) -> Drawing:
    """A dark lane: ink taken away along the major axis."""
    return bar(length, width, ink=0.0)


def tail(begin: tuple[float, float], bend: tuple[float, float], end: tuple[float, float], **pen: float) -> Drawing:
    """A curved tail from `begin` to `end`, drawn towards `bend` (a quadratic Bezier curve)."""
    t = np.linspace(0, 1, 16)[:, None]
    p0, p1, p2 = (np.asarray(point, dtype=float) for point in (begin, bend, end))
    return [Line((1 - t) ** 2 * p0 + 2 * t * (1 - t) * p1 + t**2 * p2, **pen)]


def arc(
    radius: float, middle: float, half_angle: float, centre: tuple[float, float] = (0.0, 0.0), **pen: float
) -> Drawing:
    """A piece of a circle about `centre`, around the position angle `middle`; angles in radians."""
    angle = np.linspace(middle - half_angle, middle + half_angle, 20)
    return [Line(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + centre, **pen)]


def spikes(length: float, **pen: float) -> Drawing:
    """The cross of a star's diffraction spikes."""
    return [
        Line(np.array([[-length, 0.0], [length, 0.0]]), **pen),
        Line(np.array([[0.0, -length], [0.0, length]]), **pen),
    ]


def dashed(drawing: Drawing, dash: int = 3) -> Drawing:
    """The same strokes, interrupted: in these symbols a dashed part is one that is absent."""
    marks: Drawing = []
    for mark in drawing:
        if isinstance(mark, Area):
            marks.append(mark)
            continue
        points = _resampled(mark.points, 24)
        marks += [replace(mark, points=points[i : i + dash]) for i in range(0, len(points) - 1, 2 * dash)]
    return marks


def placed(
    drawing: Drawing,
    centre: tuple[float, float] = (0.0, 0.0),
    size: float = 1.0,
    angle: float = 0.0,
    mirror: bool = False,
    pen: float = 1.0,
) -> Drawing:
    """The drawing mirrored, turned by `angle` radians, scaled and moved; `pen` scales the strokes' width too."""
    marks: Drawing = []
    for mark in drawing:
        if isinstance(mark, Line):
            points = mark.points * (-1.0, 1.0) if mirror else mark.points
            marks.append(replace(mark, points=_turned(points, angle) * size + centre, width=mark.width * pen))
        else:
            where = np.asarray(mark.centre) * (-1.0, 1.0) if mirror else np.asarray(mark.centre)
            x, y = _turned(where[None], angle)[0] * size + centre
            own = -mark.angle if mirror else mark.angle
            a, b = mark.semi_axes
            marks.append(replace(mark, centre=(x, y), semi_axes=(a * size, b * size), angle=own + angle))
    return marks


def render(drawing: Sequence[Mark], size: int) -> np.ndarray:
    """Paint a drawing.

    Parameters
    ----------
    size
        Side of the picture, pixels.

    Returns
    -------
    ndarray
        (size, size) float32, ink from 0 to 1; row 0 is the top. Edges fade over one pixel, so that
        the ink of a shape is its area, whatever its position against the pixels.
    """
    pixel = 2.0 / size
    middles = (np.arange(size) + 0.5) * pixel - 1.0
    x, y = np.meshgrid(middles, -middles)
    grid = np.stack([x, y], axis=-1)
    canvas = np.zeros((size, size))
    for mark in drawing:
        outside = _distance_to_line(grid, mark) if isinstance(mark, Line) else _distance_to_area(grid, mark)
        cover = np.clip(0.5 - outside / pixel, 0.0, 1.0)
        canvas += cover * (mark.ink - canvas)
    return canvas.astype(np.float32)


def _distance_to_line(grid: np.ndarray, line: Line) -> np.ndarray:
    """Distance of each grid point (H, W, 2) to the edge of the stroke; negative inside."""
    begin, step = line.points[:-1], np.diff(line.points, axis=0)
    length_squared = np.maximum((step**2).sum(axis=1), 1e-12)
    nearest = np.full(grid.shape[:2], np.inf)
    x, y = np.moveaxis(grid, -1, 0).copy()  # by themselves: arrays of pairs take several times as long
    for (begin_x, begin_y), (step_x, step_y), squared in zip(begin, step, length_squared, strict=True):
        right, up = x - begin_x, y - begin_y
        along = np.clip((right * step_x + up * step_y) / squared, 0.0, 1.0)
        right -= along * step_x
        up -= along * step_y
        nearest = np.minimum(nearest, right * right + up * up)
    return np.asarray(np.sqrt(nearest) - line.width / 2)


def _distance_to_area(grid: np.ndarray, area: Area) -> np.ndarray:
    """Distance to the edge of the filled shape, to first order near the edge; negative inside."""
    local = _turned(grid - np.asarray(area.centre), -area.angle)
    scaled = np.abs(local / np.asarray(area.semi_axes))
    # f = (|x/a|^n + |y/b|^n)^(1/n) is 1 on the edge, and (f - 1) / |grad f| is the distance there.
    n = area.corner
    level = np.maximum((scaled**n).sum(axis=-1), 1e-12) ** (1 / n)
    slope = (scaled ** (n - 1)) / np.asarray(area.semi_axes) * level[..., None] ** (1 - n)
    return np.asarray((level - 1.0) / np.maximum(np.hypot(slope[..., 0], slope[..., 1]), 1e-6))


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def _resampled(points: np.ndarray, count: int) -> np.ndarray:
    """`count` points at equal distances along the stroke."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, way[-1], count)
    return np.stack([np.interp(at, way, points[:, 0]), np.interp(at, way, points[:, 1])], axis=1)
