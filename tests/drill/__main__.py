"""The fault drill in full: `python -m tests.drill [MOMENTS] [SEED]`; prints a line a moment, and one JSON line."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.drill.drill import run_drill

if __name__ == "__main__":
    moments, seed = (int(text) for text in [*sys.argv[1:], "25", "0"][:2])
    with tempfile.TemporaryDirectory() as folder:
        report = run_drill(Path(folder), moments, seed)
    print("\n".join(report.lines))
    line = {
        "name": "fault_drill",
        "moments": report.moments.total(),
        "kinds": dict(report.moments),
        "stores": report.rounds,
    }
    print(json.dumps(line))
