"""What simulated volunteers are asked, and may answer: Galaxy Zoo DECaLS (Walmsley et al. 2022)."""

from __future__ import annotations

QUESTIONS: dict[str, tuple[str, ...]] = {
    "smooth_or_featured": ("smooth", "featured_or_disk", "artifact"),
    "disk_edge_on": ("yes", "no"),
    "has_spiral_arms": ("yes", "no"),
    "bar": ("strong", "weak", "no"),
    "how_rounded": ("round", "in_between", "cigar_shaped"),
    "spiral_winding": ("tight", "medium", "loose"),
    "spiral_arm_count": ("1", "2", "3", "4", "more_than_4", "cant_tell"),
    "merging": ("none", "minor_disturbance", "major_disturbance", "merger"),
}
