"""The comparison of shares pairs what belongs together, resumes, and trains both kinds from one start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tasks.ingest.survey import load_survey
from tests.evidence import adaptive_shares, workbench
from tests.evidence.adaptive_shares import MIDDLE, TASKS, gather, paired, save_shares, train, worst_task
from tests.evidence.stamps import SIDE, SURVEY, Stamps
from tests.evidence.workbench import Workbench

TINY = replace(MIDDLE, seeds=(0, 1), steps=4, evaluate_steps=2, validation_stamps=4, test_stamps=4, pretext_steps=1)


@pytest.fixture(scope="module")
def stamps() -> Stamps:
    """Noise with labels of the survey's tables."""
    generator = np.random.default_rng(0)
    count = 96
    source = np.resize(["gz2", "efigi", "decals_rings"], count)
    content: dict[str, object] = {
        "source": source,
        "split": np.repeat(["train", "validation", "test"], count // 3),
        "usable": True,
        "pixel_scale": np.nan,
    }
    for table in load_survey(SURVEY).labels:
        mine = source == table.source
        if table.kind == "classes":
            names = list(dict.fromkeys(table.classes.values()))
            content[f"label.{table.name}"] = np.where(mine, np.resize(names, count), None)
        if table.kind == "votes":
            for question, answers in table.questions.items():
                content |= {f"votes.{table.name}.{question}.{answer}": 1 / len(answers) for answer in answers}
        if table.kind == "values":
            content |= {f"value.{table.name}.{name}": generator.random(count) for name in table.values}
    images = generator.integers(0, 255, (count, 3, SIDE, SIDE), dtype=np.uint8)
    return Stamps(images, pd.DataFrame(content))


def test_the_interval_is_of_differences_within_a_seed() -> None:
    hard, easy = [0.1, 0.5, 0.9], [0.0, 0.4, 0.8]
    difference = paired([0.11, 0.5, 0.89], easy)
    assert difference.mean == pytest.approx(0.1)
    assert 0.05 < difference.low < difference.high < 0.15, "the scatter between seeds does not count"
    assert paired(hard, hard).mean == 0
    assert worst_task({"a": 0.4, "b": 0.2}) == 0.2


def test_both_kinds_start_alike_and_adaptive_shares_move(stamps: Stamps, tmp_path: Path) -> None:
    material = gather(stamps, TINY, tmp_path / "pretext")
    before = {name: value.clone() for name, value in material.encoder.state_dict().items()}
    adaptive, equal = (train(material, TINY, kind, seed=0) for kind in ("adaptive", "equal"))
    assert all(torch.equal(value, before[name]) for name, value in material.encoder.state_dict().items())
    assert set(adaptive["test"]) == set(equal["test"]) == set(TASKS)
    assert len({round(adaptive["history"][-1][f"share.{task}"], 6) for task in TASKS}) > 1
    assert {equal["history"][-1][f"share.{task}"] for task in TASKS} == {0.25}
    assert train(material, TINY, "equal", seed=0) == equal, "a seed says all"


def test_a_run_writes_its_table_and_measures_nothing_twice(
    stamps: Stamps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GALAXY_HOME", str(tmp_path))
    monkeypatch.setitem(adaptive_shares.SIZES, "small", TINY)
    monkeypatch.setattr(adaptive_shares, "real_stamps", lambda: stamps)
    monkeypatch.setattr(workbench, "report", lambda name, *rest: print(name))
    adaptive_shares.run(Workbench("adaptive_shares"))
    monkeypatch.setattr(adaptive_shares, "real_stamps", lambda: pytest.fail("measured twice"))
    adaptive_shares.run(Workbench("adaptive_shares"))
    assert capsys.readouterr().out.split() == ["adaptive_vs_equal_small"] * 2
    text = (tmp_path / "evidence/small/tables/adaptive_shares.md").read_text()
    assert all(f"| {name} |" in text for name in (*TASKS, "mean of the tasks", "worst task"))


def test_the_picture_shows_every_task(tmp_path: Path) -> None:
    kinds = ("share", "validation", "deficit")
    points = [{"step": step, **{f"{kind}.{task}": 0.2 for kind in kinds for task in TASKS}} for step in (9, 19)]
    assert save_shares(tmp_path / "shares.png", [points, points]).stat().st_size > 1000
