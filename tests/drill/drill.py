"""Disturbs an ingest at random moments until it is done, and compares what it left with an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.doubles.brick_survey import Sky, small_tree
from tests.doubles.file_server import FileServer, serve

KINDS = ("kill the process", "kill a worker", "break the connection", "return garbage", "fill the disk")
BROKEN = {
    "break the connection": {"drop": 0.5, "error": 0.4},
    "return garbage": {"garbage": 0.4, "page": 0.2, "flipped": 0.3},
}

DISK_BYTES = 24 << 20
"""Size of the small disk: the store of the drill's survey takes some 7 MB."""

SLOW_SECONDS = 0.03
"""The server takes so long for each file, so that there are moments in which to disturb."""

LATEST_SECONDS = 2.5
"""A moment comes at the latest so long after the first sign of work."""

PATIENCE_SECONDS = 240


@dataclass
class Report:
    """What happened.

    Attributes
    ----------
    moments
        Kind of fault to number of moments.
    rounds
        Stores that were made under faults, each compared byte by byte.
    lines
        A sentence a moment.
    """

    moments: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    lines: list[str] = field(default_factory=list)


class Drill:
    """A survey served over HTTP, an undisturbed store of it, and a small disk to disturb another on."""

    def __init__(self, folder: Path, server: FileServer, seed: int) -> None:
        self.folder = folder
        self.server = server
        self.chance = random.Random(seed)
        self.report = Report()
        self.disk = folder / "disk"
        self.disk.mkdir()
        sky = Sky(small_tree(folder / "tree"), folder)
        sky.source["root"] = server.url
        (folder / "definition.json").write_text(sky.definition().model_dump_json())
        server.delay = SLOW_SECONDS

    def run(self, moments: int, kinds: tuple[str, ...]) -> Report:
        """Disturb `moments` times, each kind in turn, and compare every store that came to its end."""
        calm = self.folder / "calm"
        assert self.finish(self.start(str(calm))) == 0, "the undisturbed run must end"
        while self.report.moments.total() < moments:
            self.disturbed_round(moments, kinds)
            compare(calm, self.disk / "store")
            self.report.rounds += 1
        return self.report

    def disturbed_round(self, moments: int, kinds: tuple[str, ...]) -> None:
        """Start again and again with a fault each time, until the dataset is published."""
        subprocess.run(["rm", "-rf", str(self.disk / "store")], check=True)
        while True:
            done = self.report.moments.total()
            process = self.start(str(self.disk / "store"))
            if done >= moments:
                assert self.finish(process) == 0, "without faults the run must end"
                return
            kind = kinds[done % len(kinds)]
            self.await_work(process)
            seconds = self.chance.uniform(0, LATEST_SECONDS)
            if self.sleep(process, seconds):  # it was faster than the fault
                assert process.returncode == 0
                return
            self.report.moments[kind] += 1
            self.report.lines.append(f"{kind} {seconds:.2f} s into the work")
            if self.disturb(kind, process) == 0:
                return

    def disturb(self, kind: str, process: subprocess.Popen[str]) -> int | None:
        """Do it, and undo what can be; gives the status of a process that ended by it or all the same."""
        if kind == "kill the process":
            self.kill(process)
            return None
        if kind == "kill a worker":
            self.kill_worker(process)
        elif kind in BROKEN:
            self.server.faults = dict(BROKEN[kind])
            self.sleep(process, self.chance.uniform(0.2, 1.5))
            self.server.faults = {}
        elif kind == "fill the disk":
            with self.full_disk():
                self.sleep(process, 30)
            if process.poll() is None:
                return self.finish(process)
            assert process.returncode in (0, 3), process.returncode
            return process.returncode
        if self.chance.random() < 0.5:  # half of them go on to their end, the others get the next fault
            return self.finish(process)
        self.sleep(process, self.chance.uniform(0, 1.0))
        if process.poll() is None:
            self.kill(process)
            return None
        return process.returncode

    def start(self, store: str) -> subprocess.Popen[str]:
        """The ingest, in a session of its own, with its output in a log."""
        kind = self.chance.choice(["inline", "local", "local"])
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.drill.ingest_once", str(self.folder), store, kind],
                stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    def await_work(self, process: subprocess.Popen[str]) -> None:
        """Wait until the process asks for the first file, or is ready in another way."""
        asked = self.server.requests.total()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.server.requests.total() == asked and process.poll() is None:
            assert time.monotonic() < deadline, "the ingest does not begin"
            time.sleep(0.02)

    def sleep(self, process: subprocess.Popen[str], seconds: float) -> bool:
        """Wait so long, or until the process has ended: whether it has."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is not None

    def finish(self, process: subprocess.Popen[str]) -> int:
        """Its status once it has ended."""
        process.wait(PATIENCE_SECONDS)
        return process.returncode

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Kill it and all that it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_worker(self, process: subprocess.Popen[str]) -> None:
        """Kill one of the processes that it started, if there are any."""
        with suppress(psutil.Error):
            children = psutil.Process(process.pid).children(recursive=True)
            if children:
                self.chance.choice(children).kill()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """The disk has no room but for a few bytes."""
        ballast = self.disk / "ballast"
        free = os.statvfs(self.disk).f_bavail * os.statvfs(self.disk).f_frsize
        with suppress(OSError), ballast.open("wb") as file:
            file.write(bytes(max(0, free - self.chance.randrange(400_000))))
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)


def compare(calm: Path, disturbed: Path) -> None:
    """Assert that two stores have the same files with the same bytes."""
    here, there = (
        {path.relative_to(root): path for path in root.rglob("*") if path.is_file()} for root in (calm, disturbed)
    )
    assert sorted(here) == sorted(there), sorted(set(here) ^ set(there))
    other = [str(name) for name, path in here.items() if path.read_bytes() != there[name].read_bytes()]
    assert not other, f"differ: {other}"


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a small file system in memory at `place`; whether that is allowed here."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], capture_output=True, check=False
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(place)], check=False)


def run_drill(folder: Path, moments: int, seed: int) -> Report:
    """The whole drill below an empty folder."""
    (folder / "tree").mkdir()
    with serve(folder / "tree") as server:
        drill = Drill(folder, server, seed)
        with small_disk(drill.disk) as mounted:
            kinds = KINDS if mounted else KINDS[:-1]
            report = drill.run(moments, kinds)
    if not mounted:
        report.lines.append("the disk was not filled: no file system can be mounted here")
    return report
