"""Measure the evidence, all of it or the parts named: `python -m tests.evidence [PART ...] [--full] [--keep]`."""

from __future__ import annotations

import argparse
import importlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch

from tests.evidence.workbench import Workbench

FIRST: tuple[str, ...] = ("few_labels",)
"""Measured one after the other: they fill the processors by themselves, and the others use what they pre-train."""

BESIDE: tuple[str, ...] = ("restoration", "adaptive_shares", "parameters", "representations")
"""Measured two at a time with a thread each, the longest first: small networks fill one thread better than two."""

PARTS = FIRST + BESIDE
"""Modules of this folder with `run(bench: Workbench) -> None`."""

AT_ONCE = 2


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
    chosen = arguments.parts or PARTS
    run = partial(measure, full=arguments.full, keep=arguments.keep)
    for part in FIRST:
        if part in chosen:
            run(part)
    context = get_context("forkserver")
    with ProcessPoolExecutor(AT_ONCE, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(run, [part for part in BESIDE if part in chosen]))


def measure(part: str, *, full: bool, keep: bool) -> None:
    """One part, in this process."""
    importlib.import_module(f"tests.evidence.{part}").run(Workbench(part, full, keep))


if __name__ == "__main__":
    main()
