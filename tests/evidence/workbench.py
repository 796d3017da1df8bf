"""Where evidence is kept: a line for each measurement, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import galaxy_models
import infra
import tasks
from infra.settings import Settings
from tests.benchmarks.result import report

FOLDER = Path(__file__).parent
TABLES = FOLDER / "tables"


SIZES = ("small", "middle", "full")
"""The least; what README and RESULTS.md show; and all that is asked for, on a larger machine."""


@dataclass(frozen=True)
class Workbench:
    """One part of the evidence at one size.

    Attributes
    ----------
    part
        Name of the module in this folder.
    size
        One of `SIZES`.
    keep
        Take measurements that older code made; by default those of other code are made again.
    """

    part: str
    size: str = "small"
    keep: bool = False

    @property
    def folder(self) -> Path:
        """In the installation's home, for what is kept between runs; no size takes another's."""
        folder = Settings.from_environment().home / "evidence" / self.size / self.part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def shown(self) -> Path:
        """Where tables and pictures go: here, where README and RESULTS.md have them; the small ones, in the home."""
        return self.folder.parent if self.size == SIZES[0] else FOLDER

    def cell(self, measure: Callable[[], Mapping[str, Any]], **key: Any) -> dict[str, Any]:
        """What `measure` gives for this key: from an earlier run of the same code, or measured now and kept.

        Parameters
        ----------
        measure
            Gives JSON values.
        key
            All that the result depends on, as JSON values.
        """
        name = json.dumps(key, sort_keys=True)
        if self.keeps(**key):
            return dict(self._known[name]["result"])
        self.say(f"measuring {name}")
        started = time.monotonic()
        result = dict(measure())
        line = {"key": key, "code": self.code, "result": result}
        with self._path.open("ab", buffering=0) as file:  # one write: several processes may keep what they measured
            file.write(f"\n{json.dumps(line, default=float)}".encode())  # what a kill cut short ends before it
        self._known[name] = json.loads(json.dumps(line, default=float))
        self.say(f"  took {time.monotonic() - started:.0f} s")
        return dict(self._known[name]["result"])

    def keeps(self, **key: Any) -> bool:
        """Whether `cell` has a result of this key and need not measure."""
        found = self._known.get(json.dumps(key, sort_keys=True))
        return found is not None and (self.keep or found["code"] == self.code)

    def reread(self) -> None:
        """Take up what other processes have kept meanwhile."""
        self.__dict__.pop("_known", None)

    def say(self, text: str) -> None:
        """One line for the one who waits; standard output is for figures alone."""
        print(f"[{self.part}] {text}", file=sys.stderr, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], remark: str = "") -> None:
        """Keep a table in the file of the part; one of the same title is replaced.

        Parameters
        ----------
        remark
            Data, split, seeds and what else a reader must know.
        """
        lines = [f"### {title}", "", _row(head), _row(["---"] * len(head)), *map(_row, rows)]
        text = "\n".join([*lines, *(["", remark] if remark else [])]) + "\n"
        path = self.shown / "tables" / f"{self.part}.md"
        path.parent.mkdir(exist_ok=True)
        before = path.read_text().split("\n\n### ") if path.exists() else []
        known = {each.removeprefix("### ").split("\n", 1)[0]: each.removeprefix("### ").strip() for each in before}
        known[title] = text.removeprefix("### ").strip()
        path.write_text("\n\n".join(f"### {each}" for each in known.values()) + "\n")

    def picture(self, name: str) -> Path:
        """Where a picture is to be saved."""
        (self.shown / "pictures").mkdir(exist_ok=True)
        return self.shown / "pictures" / name

    def report(self, name: str, value: float, unit: str, goal: str, reached: bool) -> None:
        """Print and keep a figure; the small ones have names of their own."""
        report(f"{name}_{self.size}" if self.size == SIZES[0] else name, value, unit, goal, reached)

    @cached_property
    def code(self) -> str:
        """Digest of the sources that measurements depend on: models, tasks, settings, and this folder but its tests."""
        packages = [Path(str(package.__file__)).parent for package in (galaxy_models, infra, tasks)]
        own = [path for path in FOLDER.glob("*.py") if not path.name.startswith("test_")]
        digest = hashlib.sha256()
        for path in sorted([*(path for package in packages for path in package.rglob("*.py")), *own]):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def _path(self) -> Path:
        return self.folder / "cells.jsonl"

    @cached_property
    def _known(self) -> dict[str, Any]:
        """Newest line of each key; a line that a kill cut short counts as not written."""
        if not self._path.exists():
            return {}
        known = {}
        for text in self._path.read_text().splitlines():
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            known[json.dumps(line["key"], sort_keys=True)] = line
        return known


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
