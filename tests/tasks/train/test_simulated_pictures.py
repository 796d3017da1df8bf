"""Pictures of simulated galaxies, drawn once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.train import simulated_pictures as module
from tasks.train.simulated_pictures import simulated_pictures

COUNT, SIZE = 40, 32


def test_what_was_drawn_before_a_kill_is_not_drawn_again_and_processes_draw_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART", 16)
    monkeypatch.setattr(module, "CHUNK", 4)
    notes: list[int] = []

    def progress(done: int, total: int, note: str = "") -> None:
        notes.append(done)

    whole = simulated_pictures(tmp_path / "one", COUNT, SIZE, 1, progress)
    assert notes == [0, 16, 32]
    assert whole.images.shape == (COUNT, 3, 38, 38)
    parts = sorted((tmp_path / "one").iterdir())
    assert len(parts) == 3
    parts[1].unlink()
    notes.clear()
    again = simulated_pictures(tmp_path / "one", COUNT, SIZE, 1, progress)
    assert len(notes) == 1, "one part lacked"
    both = simulated_pictures(tmp_path / "two", COUNT, SIZE, 2, progress)
    for other in (again, both):
        assert torch.equal(other.images, whole.images)
        assert torch.equal(other.answers, whole.answers)
