import json

import pytest

from tests.evidence import workbench
from tests.evidence.workbench import Workbench


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setattr(workbench, "FOLDER", tmp_path)
    return tmp_path


def test_a_measurement_is_made_once_also_after_a_kill_in_the_middle_of_the_next_line(home):
    assert Workbench("part").cell(lambda: {"score": 0.5}, fold=1) == {"score": 0.5}
    with (home / "evidence" / "small" / "part" / "cells.jsonl").open("a") as file:
        file.write('\n{"key": {"fold": 2}, "resu')

    def never():
        raise AssertionError("was measured before")

    assert Workbench("part").cell(never, fold=1) == {"score": 0.5}
    assert Workbench("part").cell(lambda: {"score": 0.7}, fold=2) == {"score": 0.7}
    assert Workbench("part").cell(never, fold=2) == {"score": 0.7}


def test_measurements_of_other_code_are_made_again_unless_they_are_to_be_kept(home):
    Workbench("part").cell(lambda: {"score": 0.5}, fold=1)
    path = home / "evidence" / "small" / "part" / "cells.jsonl"
    line = json.loads(path.read_text())
    path.write_text(json.dumps({**line, "code": "older"}) + "\n")
    assert Workbench("part", keep=True).cell(lambda: {"score": 0.9}, fold=1) == {"score": 0.5}
    assert Workbench("part").cell(lambda: {"score": 0.9}, fold=1) == {"score": 0.9}


def test_what_another_process_has_kept_is_known_after_rereading():
    bench = Workbench("part")
    assert not bench.keeps(fold=1)
    Workbench("part").cell(lambda: {"score": 0.5}, fold=1)
    bench.reread()
    assert bench.keeps(fold=1)


def test_a_table_replaces_the_one_of_its_title_and_leaves_the_others(home):
    bench = Workbench("part", "middle")
    bench.table("First", ["a"], [["1"]])
    bench.table("Second", ["a"], [["2"]], "A remark.")
    bench.table("First", ["a"], [["3"]])
    text = (home / "tables" / "part.md").read_text()
    assert text.count("### First") == text.count("### Second") == 1
    assert "| 3 |" in text and "| 1 |" not in text and "A remark." in text


def test_what_is_small_stays_apart_from_what_is_shown(home, monkeypatch):
    told = []
    monkeypatch.setattr(workbench, "report", lambda name, *rest: told.append(name))
    for size in workbench.SIZES:
        bench = Workbench("part", size)
        bench.table("First", ["a"], [[size]])
        bench.report("figure", 1.0, "s", "< 2", True)
        assert bench.cell(lambda size=size: {"of": size}, fold=1) == {"of": size}
    assert told == ["figure_small", "figure", "figure"]
    assert "| full |" in (home / "tables" / "part.md").read_text()
    assert "| small |" in (home / "evidence" / "small" / "tables" / "part.md").read_text()
    assert Workbench("part").picture("a.png").parent == home / "evidence" / "small" / "pictures"
