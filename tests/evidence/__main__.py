"""Measure the evidence, all of it or the parts named: `python -m tests.evidence [PART ...] [--full] [--keep]`."""

from __future__ import annotations

import argparse

from tests.evidence.parts import PARTS, measure_all


def main() -> None:
    """Measure each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="the whole, which takes long")
    parser.add_argument("--keep", action="store_true", help="take measurements that older code made")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    measure_all(arguments.parts or PARTS, full=arguments.full, keep=arguments.keep)


if __name__ == "__main__":
    main()
