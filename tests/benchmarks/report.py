"""Bring RESULTS.md up to date with what was measured here, and with the tables of the evidence: `make results`.

Figures that were not measured here stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.result import RESULTS
from tests.evidence.parts import PARTS
from tests.evidence.workbench import TABLES

PAGE = Path(__file__).with_name("RESULTS.md")

HEAD = """# Results

The newest figure of each benchmark and of the evidence, by `make bench`, `make evidence` and `make results`. Machines
are shared and noisy: read ratios, and absolute times as what was seen once.

"""
COLUMNS = ("name", "value", "unit", "goal", "reached", "date", "commit")
DATE = COLUMNS.index("date")


def page(before: str, lines: str) -> str:
    """The whole of RESULTS.md, but for the evidence.

    Parameters
    ----------
    before
        RESULTS.md as it was; its rows stay where `lines` have none of the name.
    lines
        Of `tests.benchmarks.result.report`, the newest last. A row of a later day stays.
    """
    rows: dict[str, list[str]] = {}
    for text in before.split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if text.startswith("| ") and len(cells) == len(COLUMNS) and cells[0] != COLUMNS[0]:
            rows[cells[0]] = cells
    for line in map(json.loads, lines.splitlines()):
        line["reached"] = "yes" if line["reached"] else "no"
        known = rows.get(line["name"])
        if known is None or known[DATE] <= line["date"]:
            rows[line["name"]] = [str(line[column]) for column in COLUMNS]
    head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return HEAD + "\n".join([*head, *(f"| {' | '.join(rows[name])} |" for name in sorted(rows))]) + "\n"


if __name__ == "__main__":
    measured = RESULTS.read_text() if RESULTS.exists() else ""
    tables = [path.read_text() for path in (TABLES / f"{part}.md" for part in PARTS) if path.exists()]
    PAGE.write_text("\n".join([page(PAGE.read_text(), measured), "## Evidence\n", *tables]))
