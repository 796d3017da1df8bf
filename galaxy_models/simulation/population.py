"""Which galaxies there are: kinds, magnitudes, sizes, shapes and colours, drawn from an object's own generator.

The numbers are ours, chosen so that a magnitude-limited sample of the Legacy Surveys' look comes out: r of 15.5 to
20, half-light radii of 1.5" to 9", a red sequence that reddens with redshift, and blue disks around red bulges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .galaxy import (
    BANDS,
    FEATURED_DISK,
    Arms,
    Bar,
    Bulge,
    Disk,
    Galaxy,
    Ring,
    edge_on_axis_ratio,
    equivalent_sersic_index,
    light_profile,
    radius_enclosing,
)

KIND_SHARES = {
    "round_smooth": 0.20,
    "in_between_smooth": 0.22,
    "cigar_smooth": 0.08,
    "edge_on_disk": 0.14,
    "spiral": 0.30,
    FEATURED_DISK: 0.06,
}
"""Shares among galaxies that neither lens nor merge."""

MAGNITUDE_RANGE = (15.5, 20.0)
COUNT_SLOPE = -0.08
"""Of log10 counts per magnitude. The sky's is +0.6: bright galaxies, whose shape can be seen, are far too many here."""

FEATURED_FAINT = 19.2
"""Arms, bars and rings of fainter galaxies are not seen from the ground: such galaxies go among the smooth."""

RADIUS_RANGE = (1.5, 9.0)
EXTINCTION = {"g": 3.214, "r": 2.165, "z": 1.211}
"""A_b / E(B-V) of the Legacy Surveys' filters."""

Colour = tuple[float, float]
"""(g - r, r - z), AB magnitudes."""


def draw_galaxy(generator: np.random.Generator, kind: str, *, deflector: bool, reddening: float) -> Galaxy:
    """A galaxy of the given kind.

    Parameters
    ----------
    generator
        Decides everything.
    kind
        One of `galaxy.CLASSES` or `galaxy.FEATURED_DISK`.
    deflector
        Whether it lenses: a massive red elliptical at redshift 0.25 to 0.5.
    reddening
        E(B-V) of the Milky Way, magnitudes.
    """
    bright, faint = (17.3, 19.8) if deflector else MAGNITUDE_RANGE
    if kind in ("spiral", FEATURED_DISK):
        faint = FEATURED_FAINT
    magnitude = _magnitude(generator, COUNT_SLOPE, bright, faint)
    if deflector:
        redshift = float(np.clip(0.33 + 0.09 * (magnitude - 18.5) + 0.04 * generator.standard_normal(), 0.2, 0.55))
    else:
        redshift = float(0.055 * 10 ** (0.13 * (magnitude - 16.5)) * np.exp(0.35 * generator.standard_normal()))
    radius = _half_light_radius(generator, magnitude, kind)
    position_angle = float(generator.uniform(0, 180))
    offset = (float(0.12 * generator.standard_normal()), float(0.12 * generator.standard_normal()))
    disturbance = ""
    bulge: Bulge | None
    disk: Disk | None
    if kind == "disturbed":
        disturbance = ("pair", "shells", "irregular")[int(generator.choice(3, p=[0.6, 0.15, 0.25]))]
    late = 0.0 if deflector else _hubble_stage(generator, kind, disturbance)
    fractions = _fractions(generator, kind, disturbance, late)
    if kind in ("round_smooth", "in_between_smooth", "cigar_smooth") or disturbance == "shells":
        bulge, disk = _spheroid(generator, kind, late), None
    else:
        disk = _disk(generator, kind, late)
        ratio = float(np.exp(generator.normal(np.log(0.16 + 0.12 * (1 - late)), 0.3)))
        bulge = Bulge(
            radius=min(ratio, 0.6) * 1.678 * disk.scale_radius,  # of the disk's half-light radius
            sersic_index=float(np.clip(generator.normal(1.4 + 1.8 * (1 - late), 0.5), 0.7, 4.0)),
            axis_ratio=float(np.clip(0.85 * disk.axis_ratio + 0.25 + 0.05 * generator.standard_normal(), 0.55, 0.98)),
        )
    radii, enclosed = light_profile(fractions, bulge, disk)
    scale = radius / radius_enclosing(0.5, radii, enclosed)
    bulge = None if bulge is None else Bulge(bulge.radius * scale, bulge.sersic_index, bulge.axis_ratio)
    if disk is not None:
        disk = Disk(**{**vars(disk), "scale_radius": disk.scale_radius * scale})
        axis_ratio = disk.axis_ratio
    else:
        assert bulge is not None
        axis_ratio = bulge.axis_ratio
    fluxes = _component_fluxes(generator, magnitude, fractions, redshift, late, disk is None, reddening)
    undefined = kind == "disturbed"
    return Galaxy(
        kind=kind,
        disturbance=disturbance,
        redshift=redshift,
        position_angle=position_angle,
        axis_ratio=float("nan") if undefined else axis_ratio,
        half_light_radius=float("nan") if undefined else radius,
        sersic_index=float("nan") if undefined else equivalent_sersic_index(radii, enclosed),
        bulge=bulge,
        disk=disk,
        bulge_flux=fluxes[0],
        disk_flux=fluxes[1],
        young_flux=fluxes[2],
        offset=offset,
    )


def _magnitude(generator: np.random.Generator, slope: float, bright: float, faint: float) -> float:
    """Magnitude from counts that go as 10^(slope m)."""
    low, high = 10 ** (slope * bright), 10 ** (slope * faint)
    return float(np.log10(low + generator.uniform() * (high - low)) / slope)


def _half_light_radius(generator: np.random.Generator, magnitude: float, kind: str) -> float:
    """Major-axis half-light radius, arcsec: 2.8" at r = 17.5, 0.13 dex less a magnitude, larger for disks."""
    factors = {"round_smooth": 0.85, "in_between_smooth": 0.95, "cigar_smooth": 1.15, "edge_on_disk": 1.55}
    typical = 2.8 * factors.get(kind, 1.3) * 10 ** (-0.13 * (magnitude - 17.5))
    low, high = RADIUS_RANGE
    for _ in range(8):
        radius = float(typical * 10 ** (0.11 * generator.standard_normal()))
        if low <= radius <= high:
            return radius
    return float(np.clip(radius, low, high))


def _hubble_stage(generator: np.random.Generator, kind: str, disturbance: str) -> float:
    """0 for early types to 1 for late ones: bulges shrink, arms open and colours turn blue along it."""
    if kind in ("round_smooth", "in_between_smooth"):
        return float(generator.beta(1.0, 5.0))
    if kind == "cigar_smooth":
        return float(generator.beta(1.2, 2.5))
    if kind == FEATURED_DISK:
        return float(generator.beta(1.2, 4.0))
    if disturbance:
        return {"pair": float(generator.beta(2, 2)), "shells": 0.05, "irregular": float(generator.uniform(0.85, 1))}[
            disturbance
        ]
    return float(generator.beta(1.6, 1.6))


def _fractions(generator: np.random.Generator, kind: str, disturbance: str, late: float) -> tuple[float, float, float]:
    """Shares of bulge, old and young disk in r."""
    if kind in ("round_smooth", "in_between_smooth", "cigar_smooth") or disturbance == "shells":
        return (1.0, 0.0, 0.0)
    bulge = float(np.clip(0.36 * (1 - late) ** 1.4 * np.exp(0.35 * generator.standard_normal()) + 0.02, 0.01, 0.7))
    if kind == "edge_on_disk" and generator.uniform() < 0.35:
        bulge = 0.0
    if disturbance == "irregular":
        bulge = 0.0
    young = float(np.clip(0.20 + 0.45 * late + 0.06 * generator.standard_normal(), 0.12, 0.75))
    if kind == FEATURED_DISK:
        young *= 0.75
    return (bulge, (1 - bulge) * (1 - young), (1 - bulge) * young)


def _spheroid(generator: np.random.Generator, kind: str, late: float) -> Bulge:
    low, high = {
        "round_smooth": (0.82, 0.99),
        "in_between_smooth": (0.45, 0.75),
        "cigar_smooth": (0.20, 0.34),
        "disturbed": (0.65, 0.95),
    }[kind]
    mean = 1.6 if kind == "cigar_smooth" else 3.7 - 4.0 * late
    return Bulge(
        radius=1.0,
        sersic_index=float(np.clip(generator.normal(max(mean, 1.0), 0.6), 0.8, 5.0)),
        axis_ratio=float(generator.uniform(low, high)),
    )


def _disk(generator: np.random.Generator, kind: str, late: float) -> Disk:
    """A disk of scale radius 1; the caller scales it."""
    if kind == "edge_on_disk":
        thickness = float(generator.uniform(0.13, 0.34))
        dust = float(generator.uniform(1.0, 4.0)) if generator.uniform() < 0.55 else 0.0
        return Disk(1.0, axis_ratio=edge_on_axis_ratio(thickness), thickness=thickness, dust=dust)
    cosine = float(generator.uniform(0.42, 1.0))
    axis_ratio = float(np.sqrt(cosine**2 * (1 - 0.15**2) + 0.15**2))
    barred = generator.uniform() < (0.75 if kind == FEATURED_DISK else 0.38)
    bar = Bar(
        length=float(generator.uniform(0.7, 1.3)),
        fraction=float(generator.uniform(0.08, 0.24)),
        angle=float(generator.uniform(0, np.pi)),
    )
    ringed = generator.uniform() < (0.6 if kind == FEATURED_DISK and barred else 0.14)
    if kind == FEATURED_DISK and not barred:
        ringed = True
    if kind == "disturbed":
        barred, ringed = bool(generator.uniform() < 0.3), False
    ring = Ring(
        radius=float(bar.length * generator.uniform(1.1, 1.5)) if barred else float(generator.uniform(1.3, 2.3)),
        fraction=float(generator.uniform(0.5, 0.9)),
    )
    arms = _arms(generator, late, bar if barred else None) if kind in ("spiral", "disturbed") else None
    return Disk(
        scale_radius=1.0,
        axis_ratio=axis_ratio,
        dust=float(generator.uniform(0.15, 0.7)) if arms else 0.0,
        arms=arms,
        bar=bar if barred else None,
        ring=ring if ringed else None,
    )


def _arms(generator: np.random.Generator, late: float, bar: Bar | None) -> Arms:
    count = int(generator.choice([1, 2, 3, 4], p=[0.06, 0.60, 0.20, 0.14]))
    if bar is not None and count != 2 and generator.uniform() < 0.7:
        count = 2
    pitch = float(np.clip(11 + 16 * late + 4.5 * generator.standard_normal(), 9, 38))
    if count == 1:
        pitch = min(pitch, 20.0)
    handedness = 1 if generator.uniform() < 0.5 else -1
    phase = float(generator.uniform(0, 2 * np.pi))
    if bar is not None and count == 2:
        # Arms start at the ends of the bar.
        phase = bar.angle - handedness * float(np.log(bar.length)) / float(np.tan(np.deg2rad(pitch)))
    return Arms(
        count=count,
        pitch=pitch,
        strength=float(generator.uniform(0.55, 1.0)),
        phase=phase,
        handedness=handedness,
        flocculence=float(np.clip(0.25 + 0.35 * late + 0.15 * generator.standard_normal(), 0.05, 0.9)),
    )


def _component_fluxes(
    generator: np.random.Generator,
    magnitude: float,
    fractions: Sequence[float],
    redshift: float,
    late: float,
    smooth: bool,
    reddening: float,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Nanomaggies in `BANDS` of bulge, old and young disk; their sum has the given observed r magnitude."""
    blueness = 1.3 * late if smooth else 0.0  # smooth galaxies of late type are blue dwarfs of one colour
    colours = (
        _mix(_old(redshift, 0.0), _young(redshift), min(blueness, 0.5)),
        _mix(_old(redshift, -0.10), _young(redshift), 0.25 * late),
        _young(redshift),
    )
    common = (0.03 * generator.standard_normal(), 0.03 * generator.standard_normal())
    total = 10 ** (0.4 * (22.5 - magnitude))
    fluxes = []
    for fraction, colour in zip(fractions, colours, strict=True):
        green_red, red_infrared = colour[0] + common[0], colour[1] + common[1]
        green_red += reddening * (EXTINCTION["g"] - EXTINCTION["r"])
        red_infrared += reddening * (EXTINCTION["r"] - EXTINCTION["z"])
        relative = {"g": 10 ** (-0.4 * green_red), "r": 1.0, "z": 10 ** (0.4 * red_infrared)}
        fluxes.append(tuple(float(total * fraction * relative[band]) for band in BANDS))
    return fluxes[0], fluxes[1], fluxes[2]


def _old(redshift: float, shift: float) -> Colour:
    """The red sequence as it is observed, up to redshift 0.5."""
    near, far = min(redshift, 0.35), max(redshift - 0.35, 0.0)
    return (0.68 + 2.6 * near + 0.9 * far + shift, 0.56 + 0.75 * near + 2.0 * far + 0.6 * shift)


def _young(redshift: float) -> Colour:
    """Star-forming disks."""
    near = min(redshift, 0.4)
    return (0.20 + 0.9 * near, 0.12 + 0.7 * near)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    return (first[0] * (1 - share) + second[0] * share, first[1] * (1 - share) + second[1] * share)
