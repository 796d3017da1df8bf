"""Write RESULTS.md from the newest line of each benchmark and the tables of the evidence: `make results`."""

from __future__ import annotations

import json

from tests.benchmarks.result import RESULTS
from tests.evidence.parts import PARTS
from tests.evidence.workbench import TABLES

HEAD = """# Results

The newest figure of each benchmark and of the evidence, by `make bench`, `make evidence` and `make results`. Machines
are shared and noisy: read ratios, and absolute times as what was seen once.

| name | value | unit | goal | reached | date | commit |
|---|---|---|---|---|---|---|
"""


def table() -> str:
    """The whole of RESULTS.md."""
    newest: dict[str, dict[str, object]] = {}
    for text in RESULTS.read_text().splitlines():
        line = json.loads(text)
        newest[line["name"]] = line
    rows = [
        f"| {line['name']} | {line['value']} | {line['unit']} | {line['goal']} | {'yes' if line['reached'] else 'no'} "
        f"| {line['date']} | {line['commit']} |"
        for _, line in sorted(newest.items())
    ]
    tables = [path.read_text() for path in (TABLES / f"{part}.md" for part in PARTS) if path.exists()]
    return "\n".join([HEAD + "\n".join(rows) + "\n", *(["## Evidence\n"] if tables else []), *tables])


if __name__ == "__main__":
    RESULTS.with_name("RESULTS.md").write_text(table())
