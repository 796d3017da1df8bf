"""Measure the evidence: `python -m tests.evidence [PART ...] [--size SIZE] [--keep]`."""

from __future__ import annotations

import argparse
from functools import partial

from tests.evidence.parts import PARTS, measure, measure_all
from tests.evidence.workbench import SIZES


def main() -> None:
    """Measure each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--size", choices=SIZES, default=SIZES[0], help="small by default")
    parser.add_argument("--keep", action="store_true", help="take measurements that older code made")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    measure_all(arguments.parts or PARTS, partial(measure, size=arguments.size, keep=arguments.keep))


if __name__ == "__main__":
    main()
