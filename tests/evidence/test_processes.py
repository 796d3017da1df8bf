"""Processes that measure end with the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.evidence.parts import BESIDE, measure_all
from tests.evidence.processes import in_processes
from tests.evidence.workbench import Workbench

PATIENCE_SECONDS = 60


def opened(_: Workbench) -> Path:
    return Path(sys.argv[1])


def measure(folder: Path, what: int | str) -> None:
    (folder / str(what)).write_text(str(os.getpid()))
    time.sleep(10 * PATIENCE_SECONDS)


def numbers_in(folder: Path) -> list[int]:
    return [int(path.read_text() or 0) for path in folder.iterdir()]


@pytest.mark.parametrize("way", ["cells", "parts"])
def test_a_killed_parent_leaves_none_behind(tmp_path: Path, way: str) -> None:
    started = subprocess.Popen([sys.executable, "-m", "tests.evidence.test_processes", str(tmp_path), way])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len([number for number in numbers_in(tmp_path) if number]) < 2:
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.1)
    children = [psutil.Process(number) for number in numbers_in(tmp_path)]
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_SECONDS)
    assert not alive


if __name__ == "__main__":
    if sys.argv[2] == "cells":
        in_processes(2, Workbench("unused"), opened, measure, [1, 2])
    else:
        measure_all(BESIDE[:2], partial(measure, Path(sys.argv[1])))
