"""torch.compile, where it pays."""

from __future__ import annotations

import torch

from .objective import Objective

OLDEST_CAPABILITY = (7, 0)
"""CUDA compute capability that the generated kernels need."""


def compiling_pays(device: str) -> bool:
    """Whether `device` is one that parts are compiled for: CUDA alone, where it is new enough.

    On a CPU compiling needs a C++ compiler, which users may not have, and short trainings do not win its time back.
    """
    return device.startswith("cuda") and torch.cuda.get_device_capability(device) >= OLDEST_CAPABILITY


def compile_parts(objective: Objective) -> None:
    """Compile the parts that the objective names, in place: their parameters keep their names."""
    for part in objective.compiled_parts():
        # the parts share their code: counted together, their shapes would exceed what torch compiles of one function
        part.compile(isolate_recompiles=True)
