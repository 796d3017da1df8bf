"""Seconds from a sheet's answers to the next sheet: refit and choice among a million stamps, features memory-mapped."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from galaxy_models.preference import Preference
from tasks.reserved_array import create_reserved
from tests.benchmarks.result import report

ROWS, FEATURES, PIECE = 1_000_000, 256, 50_000
WANTED = 2000
"""One in 500, the rare case."""

ROUNDS, SHEET, EXAMPLES = 10, 16, 3
MEDIAN, P95, MEMORY = 1.0, 2.0, 1.0


def make_features(path: Path, wanted: np.ndarray) -> np.ndarray:
    """Standard normal features, of which the first twenty are shifted for the wanted rows; opened as they are read."""
    features = create_reserved(path, np.float32, (ROWS, FEATURES))
    generator = np.random.default_rng(0)
    for start in range(0, ROWS, PIECE):
        block = generator.standard_normal((PIECE, FEATURES), dtype=np.float32)
        block[wanted[start : start + PIECE], :20] += 1.0
        features[start : start + PIECE] = block
    features.flush()
    return np.load(path, mmap_mode="r")


def own_memory() -> int:
    """Bytes of this process without what it maps from files: the features."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def main() -> None:
    """Ten rounds after three examples, answered truly; near-duplicates in pairs for every tenth row."""
    generator = np.random.default_rng(1)
    wanted = np.zeros(ROWS, bool)
    wanted[generator.choice(ROWS, WANTED, replace=False)] = True
    groups = np.where(np.arange(ROWS) % 20 < 2, np.arange(ROWS) // 20, -1)
    with tempfile.TemporaryDirectory() as folder:
        features = make_features(Path(folder) / "features.npy", wanted)
        rows, reasons = np.flatnonzero(wanted)[:EXAMPLES], ["example"] * EXAMPLES
        Preference.learn(features, rows, wanted[rows]).propose(SHEET)  # imports, and the features come from the disk
        before, most, seconds = own_memory(), 0, []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            learnt = Preference.learn(features, rows, wanted[rows], reasons=reasons)
            sheet = learnt.propose(SHEET, groups=groups)
            learnt.remaining()
            seconds.append(time.perf_counter() - started)
            most = max(most, own_memory() - before)
            rows, reasons = np.concatenate([rows, sheet.rows]), [*reasons, *sheet.reasons]
    assert len(np.unique(rows)) == EXAMPLES + ROUNDS * SHEET
    median, p95 = (float(np.quantile(seconds, level)) for level in (0.5, 0.95))
    report("hitl_round_seconds", median, "s", f"< {MEDIAN:g} on 2 cores", median < MEDIAN)
    report("hitl_round_seconds_p95", p95, "s", f"< {P95:g} on 2 cores", p95 < P95)
    gibibytes = most / 2**30
    report("hitl_round_memory", gibibytes, "GiB above the features", f"< {MEMORY:g}", gibibytes < MEMORY)
    print(f"{wanted[rows].sum()} wanted among {len(rows)} labelled")


if __name__ == "__main__":
    main()
