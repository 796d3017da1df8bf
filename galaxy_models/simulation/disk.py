"""Disks: spiral arms, bars, rings and dust seen at an angle, and disks seen edge-on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import i0e

from .canvas import Canvas, Float, clumps
from .galaxy import Arms, Bar, Disk, edge_on_table, young_density

DUST_LAW = {"g": 1.25, "r": 0.9, "z": 0.5}
"""Optical depth of galactic dust relative to that quoted, by band."""

LOPSIDED = 0.12
"""Typical amplitude of the first azimuthal mode of a disk at two scale radii."""


@dataclass(frozen=True, eq=False)
class DiskLayers:
    """(F, F) images: flux per fine pixel of old and of young stars, each of unit total, and optical depth of dust."""

    old: Float
    young: Float
    depth: Float | None

    def seen(self, layer: Float, band: str) -> Float:
        """A layer behind its dust, with its total flux as before: fluxes of a galaxy are those that leave it."""
        if self.depth is None:
            return layer
        dimmed: Float = layer * np.exp(-np.float32(DUST_LAW[band]) * self.depth)
        return dimmed * np.float32(layer.sum() / dimmed.sum())


def draw_disk(grid: Canvas, disk: Disk, angle: float, generator: np.random.Generator) -> DiskLayers:
    """Draw the disk at the centre, its major axis at `angle` radians from x to y; clumps are the generator's."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = grid.x * cos + grid.y * sin
    v = grid.y * cos - grid.x * sin
    if disk.thickness > 0:
        return _edge_on(grid, disk, u, v, generator)
    x = u / np.float32(disk.scale_radius)
    y = v / np.float32(disk.scale_radius * disk.axis_ratio)
    return _inclined(grid, disk, x, y, generator)


def _inclined(grid: Canvas, disk: Disk, x: Float, y: Float, generator: np.random.Generator) -> DiskLayers:
    """(x, y) are the coordinates in the disk's plane, in scale radii."""
    cell = np.float32(grid.step**2 / (disk.scale_radius**2 * disk.axis_ratio))
    radius = np.sqrt(x * x + y * y) + np.float32(1e-4)
    azimuth = np.arctan2(y, x)
    # Most disks are lopsided by some percent; the cosine leaves the light of every ring as it is.
    side = np.float32(min(abs(LOPSIDED * generator.standard_normal()), 0.5)) * np.minimum(radius / 2, np.float32(1))
    uneven = 1 + side * np.cos(azimuth - np.float32(generator.uniform(0, 2 * np.pi)))
    old = np.exp(-radius) * uneven * (cell / np.float32(2 * np.pi))
    young = young_density(radius) * uneven * cell
    depth = None
    if disk.arms is not None:
        inner = 0.85 * disk.bar.length if disk.bar else 0.35
        phase = _arm_phase(disk.arms, radius, azimuth, x, y, generator)
        contrast = _reach(radius, inner) * np.float32(disk.arms.strength)
        lopsided = 1 + np.float32(0.25) * np.cos(azimuth - np.float32(generator.uniform(0, 2 * np.pi)))
        old = _modulate(old, contrast * np.float32(0.7), _ridge(phase, 1.4))
        young = _modulate(young, contrast, _ridge(phase, 3.0) * lopsided)
        young = _clumpy(young, disk.arms, radius, phase, x, y, generator)
        if disk.dust > 0:
            lane = _ridge(phase + np.float32(0.9), 2.5) * np.float32(0.4)
            depth = np.float32(disk.dust) * contrast * lane * np.exp(-radius / np.float32(2.5))
    if disk.ring is not None:
        width = np.float32(0.14 * disk.ring.radius)
        ring = np.exp(np.float32(-0.5) * ((radius - np.float32(disk.ring.radius)) / width) ** 2)
        ring *= np.exp(np.float32(0.25) * clumps(x * 2, y * 2, generator))
        young = _share(young, ring, disk.ring.fraction)
    if disk.bar is not None:
        old = _share(old, _bar(disk.bar, x, y), disk.bar.fraction)
    return DiskLayers(old, young, depth)


def _arm_phase(arms: Arms, radius: Float, azimuth: Float, x: Float, y: Float, generator: np.random.Generator) -> Float:
    """Phase of the spiral, 0 on the ridge of an arm, bent a little so that no arm is a perfect curve."""
    winding = np.log(radius) * np.float32(arms.handedness / np.tan(np.deg2rad(arms.pitch)))
    bend = clumps(x * np.float32(0.35), y * np.float32(0.35), generator) * np.float32(0.8 * arms.flocculence)
    phase: Float = np.float32(arms.count) * (azimuth - np.float32(arms.phase) - winding) + bend
    return phase


def _reach(radius: Float, inner: float) -> Float:
    """Where arms are: from `inner` out to four scale radii, with soft ends."""
    rise: Float = 1 / (1 + np.exp(-(radius - np.float32(inner)) / np.float32(0.13)))
    fall = 1 / (1 + np.exp(np.minimum((radius - np.float32(4.2)) / np.float32(0.6), np.float32(60))))
    within: Float = rise * fall
    return within


def _ridge(phase: Float, sharpness: float) -> Float:
    """A von Mises crest of mean 1 over the phase."""
    crest: Float = np.exp(np.float32(sharpness) * (np.cos(phase) - 1)) / np.float32(i0e(sharpness))
    return crest


def _modulate(layer: Float, contrast: Float, pattern: Float) -> Float:
    """Give `layer` the pattern, at the given contrast, without changing its total."""
    shaped = layer * (1 - contrast + contrast * pattern)
    return shaped * np.float32(layer.sum() / shaped.sum())


def _clumpy(
    layer: Float, arms: Arms, radius: Float, phase: Float, x: Float, y: Float, generator: np.random.Generator
) -> Float:
    """Star-forming knots: log-normal, drawn out along the arms, and a finer round kind."""
    spread = 0.35 + 0.55 * arms.flocculence
    # The phase's own jump, where the azimuth wraps, falls on whole turns of the cosine and sine.
    drawn_out = clumps(np.log(radius) * 4 + np.cos(phase), np.sin(phase) * np.float32(1.2) + x, generator)
    knots = clumps(x * np.float32(3.2), y * np.float32(3.2), generator)
    lumpy = layer * np.exp(np.float32(spread) * (np.float32(0.6) * drawn_out + np.float32(0.9) * knots))
    return lumpy * np.float32(layer.sum() / lumpy.sum())


def _bar(bar: Bar, x: Float, y: Float) -> Float:
    cos, sin = np.float32(np.cos(bar.angle)), np.float32(np.sin(bar.angle))
    along = np.abs(x * cos + y * sin) / np.float32(bar.length)
    across = np.abs(y * cos - x * sin) / np.float32(0.28 * bar.length)
    # Boxy isophotes: a generalised ellipse of exponent 2.5.
    inside = np.exp(np.log(along**2.5 + across**2.5 + np.float32(1e-8)) / np.float32(2.5))
    profile: Float = np.exp(-np.float32(1.1) * inside**2)
    return profile


def _share(layer: Float, feature: Float, fraction: float) -> Float:
    """Move `fraction` of the layer's flux into the feature."""
    total = layer.sum()
    return layer * np.float32(1 - fraction) + feature * np.float32(fraction * total / feature.sum())


def _edge_on(grid: Canvas, disk: Disk, u: Float, v: Float, generator: np.random.Generator) -> DiskLayers:
    """An exponential disk from the side, in sech^2 layers."""
    scale, height = np.float32(disk.scale_radius), np.float32(disk.thickness * disk.scale_radius)
    warp = np.float32(0.012 * generator.standard_normal()) * scale
    across = v - warp * (u / scale) * np.abs(u / scale)
    along = _edge_on_profile(np.abs(u) / scale)
    cell = np.float32(grid.step**2) / (np.float32(2) * scale * height)
    old = along * _sech2(across / height) * cell
    # Young stars lie in a thinner layer.
    young = along * _sech2(across / (np.float32(0.6) * height)) * (cell / np.float32(0.6))
    patches = clumps(u / (np.float32(0.35) * scale), across / height * np.float32(0.6), generator)
    young = young * np.exp(np.float32(0.35) * patches)
    young *= old.sum() / young.sum()
    depth = None
    if disk.dust > 0:
        beside = np.float32(generator.uniform(-0.25, 0.25)) * height
        lane = np.exp(np.float32(-0.5) * ((across - beside) / (np.float32(0.38) * height)) ** 2)
        depth = np.float32(disk.dust) * lane * np.exp(-np.abs(u) / (np.float32(1.6) * scale))
        depth *= np.exp(np.float32(0.3) * clumps(u / (np.float32(0.5) * scale), across / height, generator))
    return DiskLayers(old, young, depth)


def _sech2(t: Float) -> Float:
    fall = np.exp(-2 * np.minimum(np.abs(t), np.float32(30)))
    result: Float = 4 * fall / (1 + fall) ** 2
    return result


def _edge_on_profile(t: Float) -> Float:
    step, table = _edge_on_table32()
    position = np.minimum(t / np.float32(step), np.float32(len(table) - 2))
    low = position.astype(np.int32)
    part = position - low
    result: Float = table[low] * (1 - part) + table[low + 1] * part
    return result


@lru_cache(maxsize=1)
def _edge_on_table32() -> tuple[float, Float]:
    step, table = edge_on_table()
    return step, table.astype(np.float32)
