"""Measure the evidence, all of it or the parts named: `python -m tests.evidence [PART ...] [--full] [--keep]`."""

from __future__ import annotations

import argparse
import importlib

from tests.evidence.workbench import Workbench

PARTS: tuple[str, ...] = ("few_labels", "representations", "search", "adaptive_shares", "restoration", "parameters")
"""Modules of this folder with `run(bench: Workbench) -> None`, in the order in which they are measured."""


def main() -> None:
    """Measure each part; what was measured before by the same code is not measured again."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="the whole, which takes long")
    parser.add_argument("--keep", action="store_true", help="take measurements that older code made")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        importlib.import_module(f"tests.evidence.{part}").run(Workbench(part, arguments.full, arguments.keep))


if __name__ == "__main__":
    main()
