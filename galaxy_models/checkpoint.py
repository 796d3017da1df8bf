"""The file that a training carries on from: tensors and plain values, written in one act."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or belongs to another run; the message says which and what to do."""


@dataclass
class Checkpoint:
    """State after `step` steps: all that the rest of the run depends on.

    Learning rates, random numbers and the place in the order of batches are functions of the seed and the step, so the
    step's number holds them.

    Attributes
    ----------
    extra
        What the objective keeps beside its weights, such as the shares of its tasks.
    average
        The moving average of the weights, where there is one.
    """

    step: int
    weights: dict[str, Any]
    optimizer: dict[str, Any]
    extra: dict[str, Any]
    history: list[dict[str, float]]
    window: list[dict[str, float]]
    smooth_loss: float | None
    average: dict[str, Any] | None = None


def save_checkpoint(path: Path, state: Checkpoint, identity: dict[str, float]) -> None:
    """Replace `path`; a kill at any moment leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    with temporary.open("wb") as file:
        torch.save({"identity": identity, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(
    path: Path, identity: dict[str, float], older: Mapping[str, float] | None = None
) -> Checkpoint | None:
    """The state in `path`, or None if there is no file. Nothing but tensors and plain values is ever loaded.

    Parameters
    ----------
    older
        Numbers that a checkpoint which does not name them was made with.

    Raises
    ------
    CheckpointError
        If the file is damaged, or of a run with other numbers than `identity`.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = {**(older or {}), **content.pop("identity")}
        state = Checkpoint(**content)
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to train from the start") from error
    changed = [name for name in identity if theirs.get(name) != identity[name]]
    if changed:
        different = [f"{name} {theirs.get(name)!r}, now {identity[name]!r}" for name in changed]
        raise CheckpointError(f"{path} is of another run ({'; '.join(different)}); delete it or use another folder")
    return state
