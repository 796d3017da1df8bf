"""The file that a training carries on from: tensors and plain values, written in one act."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or belongs to another run; the message says which and what to do."""


@dataclass
class Checkpoint:
    """State after `step` steps: all that the rest of the run depends on."""

    step: int
    weights: dict[str, Any]
    optimizer: dict[str, Any]
    extra: dict[str, Any]
    history: list[dict[str, float]]
    window: list[dict[str, float]]
    smooth_loss: float | None


def save_checkpoint(path: Path, state: Checkpoint, identity: dict[str, float]) -> None:
    """Replace `path`; a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    with temporary.open("wb") as file:
        torch.save({"identity": identity, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, identity: dict[str, float]) -> Checkpoint | None:
    """The state in `path`, or None if there is no file. Nothing but tensors and plain values is ever loaded.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of a run with other numbers than `identity`.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = content.pop("identity")
        state = Checkpoint(**content)
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to train from the start") from error
    changed = [name for name in identity if theirs.get(name) != identity[name]]
    if changed:
        different = [f"{name} {theirs.get(name)!r}, now {identity[name]!r}" for name in changed]
        raise CheckpointError(f"{path} is of another run ({'; '.join(different)}); delete it or use another folder")
    return state
