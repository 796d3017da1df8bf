"""Write RESULTS.md from the newest line of each benchmark: `make results`."""

from __future__ import annotations

import json

from tests.benchmarks.result import RESULTS

HEAD = """# Results

The newest figure of each benchmark, by `make bench` and `make results`. Machines are shared and noisy:
read ratios, and absolute times as what was seen once.

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
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    RESULTS.with_name("RESULTS.md").write_text(table())
