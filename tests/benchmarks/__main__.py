"""Run every benchmark, or the one named: `python -m tests.benchmarks [NAME]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MARKS = {"from tests.benchmarks.result import report", 'if __name__ == "__main__":'}
"""Lines of a module that reports a figure and can be run: a benchmark, and no helper or test."""


def names(folder: Path = FOLDER) -> list[str]:
    """Names of the benchmarks, one a file."""
    return sorted(path.stem for path in folder.glob("*.py") if set(path.read_text().splitlines()) >= MARKS)


def main(chosen: list[str]) -> int:
    """Run each in a process of its own, so that none finds what another left in memory."""
    unknown = set(chosen) - set(names())
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    codes = [
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=False).returncode
        for name in chosen or names()
    ]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
