"""The line that every benchmark prints and keeps."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("results.jsonl")


def report(name: str, value: float, unit: str, goal: str, reached: bool) -> None:
    """Print `{"name", "value", "unit", "goal", "reached"}` and append it, with date and commit, to results.jsonl."""
    line = {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "reached": bool(reached)}
    print(json.dumps(line), flush=True)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    with RESULTS.open("a") as file:
        file.write(json.dumps({**line, "date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit}) + "\n")
