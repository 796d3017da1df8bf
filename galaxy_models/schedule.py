"""What a step's number decides: its learning rate and its random seed."""

from __future__ import annotations

import math


def step_seed(seed: int, step: int) -> int:
    """A seed for one step, well apart from those of other steps and seeds (splitmix64 of both)."""
    value = (seed * 0x9E3779B97F4A7C15 + step + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    value = (value ^ value >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return (value ^ value >> 31) & 0x7FFFFFFFFFFFFFFF


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: linear to 1 over `warmup` steps, then a cosine down to 0.01."""
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
