from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from infra.errors import GalaxyError
from infra.stage_folder import StageFolder, canonical_digest, write_atomic


def test_same_inputs_find_the_same_folder_whatever_their_order(tmp_path: Path) -> None:
    first = StageFolder(tmp_path, "ingest", {"a": 1, "b": [1, 2]})
    second = StageFolder(tmp_path, "ingest", {"b": [1, 2], "a": 1})
    assert first.path == second.path
    assert first.path != StageFolder(tmp_path, "ingest", {"a": 1, "b": [2, 1]}).path
    assert first.path != StageFolder(tmp_path, "preprocess", {"a": 1, "b": [1, 2]}).path


def test_a_stage_is_done_only_once_its_result_is_written(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path, "ingest", {})
    with folder.locked() as path:
        (path / "half").write_text("")
        assert folder.result() is None
        folder.finish({"digest": "d"})
    assert StageFolder(tmp_path, "ingest", {}).result() == {"digest": "d"}


def hold(root: Path, held: multiprocessing.synchronize.Event, end: multiprocessing.synchronize.Event) -> None:
    with StageFolder(root, "ingest", {}).locked():
        held.set()
        end.wait(30)


def test_two_processes_never_hold_one_stage_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, end = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, held, end))
    other.start()
    assert held.wait(30)
    folder = StageFolder(tmp_path, "ingest", {})
    with pytest.raises(GalaxyError, match="another run is working"), folder.locked():
        pass
    other.kill()
    other.join()
    with folder.locked():
        pass


def test_failed_write_leaves_the_old_content_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_digest_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_digest({"value": float("nan")})
