"""Measure the evidence: `python -m tests.evidence [PART ...] [--seeds N] [--full] [--keep]`."""

from __future__ import annotations

import argparse
from functools import partial

from tests.evidence.parts import PARTS, measure, measure_all


def main() -> None:
    """Measure each part."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--full", action="store_true", help="the whole, which takes long")
    parser.add_argument("--keep", action="store_true", help="take measurements that older code made")
    parser.add_argument("--seeds", type=_several, default=3, help="of searches and of shares at the small size; 3")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    one = partial(measure, full=arguments.full, keep=arguments.keep, seeds=arguments.seeds)
    measure_all(arguments.parts or PARTS, one)


def _several(text: str) -> int:
    """An interval over seeds needs two of them."""
    if int(text) < 2:
        raise argparse.ArgumentTypeError(f"at least 2 seeds, not {text}")
    return int(text)


if __name__ == "__main__":
    main()
