"""torch.compile, where it pays."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .swin import SwinBlocks
from .timm_encoder import TimmEncoder
from .upsample import DualUpsample

OLDEST_CAPABILITY = (7, 0)
"""CUDA compute capability that the generated kernels need."""

MOST_PARTS = 64


def compiling_pays(device: str) -> bool:
    """Whether `device` is one that parts are compiled for: CUDA alone, where it is new enough.

    On a CPU compiling needs a C++ compiler, which users may not have, and short trainings do not win its time back.
    """
    return device.startswith("cuda") and torch.cuda.get_device_capability(device) >= OLDEST_CAPABILITY


def worth_compiling(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that most of its time goes to: Swin blocks, up-sampling and backbones of timm."""
    bodies = [part.body for part in network.modules() if isinstance(part, TimmEncoder)]
    return bodies + [part for part in network.modules() if isinstance(part, (SwinBlocks, DualUpsample))]


def compile_parts(parts: Iterable[nn.Module]) -> None:
    """Compile parts in place: their parameters keep their names."""
    options = _options()
    for part in parts:
        part.compile(**options)


@contextmanager
def while_compiled(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Parts that are compiled for as long as the context lasts: where they go afterwards it may not pay."""
    parts = list(parts)
    compile_parts(parts)
    try:
        yield
    finally:
        for part in parts:
            part._compiled_call_impl = None


def _options() -> dict[str, Any]:
    """The parts share their code: counted together, their shapes would exceed what torch compiles of one function."""
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        return {"isolate_recompiles": True}
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_PARTS)
    return {"dynamic": False}  # that another part has another size makes no size of this one variable
