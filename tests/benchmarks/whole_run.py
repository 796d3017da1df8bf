"""Minutes and memory of `make run`: the embedded survey with the laptop profile, in an empty home."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.result import report

GALAXY = Path(sys.executable).with_name("galaxy")


def main() -> None:
    """Run it once, and sum the memory of the whole process tree now and then: looking costs the run time."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GALAXY_HOME": home}
        started = time.monotonic()
        process = subprocess.Popen(
            [GALAXY, "run", "--survey", "embedded", "--profile", "laptop"], env=environment, stdout=sys.stderr
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _tree_bytes(process.pid))
            time.sleep(5.0)
        minutes = (time.monotonic() - started) / 60
    if process.returncode:
        sys.exit(f"the run failed with status {process.returncode}")
    report("run_minutes", minutes, "min", "<= 10 on 2 quiet cores", minutes <= 10)
    report("run_memory_gib", peak / 2**30, "GiB", "< 6", peak / 2**30 < 6)


def _tree_bytes(pid: int) -> int:
    """Proportional set size of a process and all its children: shared pages count once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue  # it ended between the listing and the look
    except psutil.Error:
        return total
    return total


if __name__ == "__main__":
    main()
