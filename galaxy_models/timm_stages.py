"""Which stage of a backbone of timm a parameter belongs to: that of the first map which it has a part in.

timm's own layers (`group_parameters`) are as many as a backbone has blocks, so that one factor a layer would mean
something else for each; and names differ, as `features_only` changes them. What a map is made of is what autograd says,
for any kind of backbone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn


def first_maps(parameters: Mapping[str, nn.Parameter], maps: Sequence[Tensor]) -> dict[str, int]:
    """Of each parameter the first of the maps that was made with it.

    Parameters
    ----------
    parameters
        By their names; they may lie on the meta device, where the whole costs neither memory nor arithmetic.
    maps
        What was computed with them, with gradients.

    Returns
    -------
    dict
        From names to numbers of maps, from 1; without those that no map was made with.
    """
    numbers: dict[str, int] = {}
    for number, made in enumerate(maps, 1):
        slopes = torch.autograd.grad(made.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, slope in zip(parameters, slopes, strict=True):
            if slope is not None:
                numbers.setdefault(name, number)
    return numbers


def stem(name: str) -> set[str]:
    """Names, `flat`, of what timm's model `name` has before its first block, such as the embedding of patches.

    Empty where timm tells no layers (MetaFormers): the stem then learns as the first stage does.
    """
    with torch.device("meta"):
        whole: Any = timm.create_model(name, pretrained=False)
    if not hasattr(whole, "group_matcher"):
        return set()
    layers = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
    return {flat(parameter) for parameter, layer in layers.items() if layer == 0}


def flat(name: str) -> str:
    """A parameter's name as it is with and without `features_only`, which makes `stages_0` of `stages.0`."""
    return name.removeprefix("model.").replace(".", "_")
