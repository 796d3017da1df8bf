"""Any backbone of timm with feature maps as encoder: ConvNeXt, ResNet, Swin, plain ViTs and others, by name."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from .encoder import STRIDES, Encoder
from .timm_stages import first_maps, flat, stem

EXAMPLES = ("convnext_nano", "resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224")
"""Named in errors, for who finds the name he wanted refused."""

ANY_SIZE = {"dynamic_img_size": True}
"""How timm's transformers are told not to insist on one image size: ViTs interpolate their position embeddings to each
map, Swin makes the masks of its shifted windows for it."""

PROBED_SIZES = (96, 160)
"""Pixels. Who insists on one size, or on windows that divide every map, fails at 3 or 5 tokens of the last stage."""


class BackboneError(ValueError):
    """timm has no such model, or one that cannot be the encoder; the message says why and what comes near."""


@dataclass(frozen=True)
class Backbone:
    """How a model of timm is built as an encoder.

    Attributes
    ----------
    name
        timm's, without the tag of any weights.
    indices
        Of the four feature maps that are taken.
    strides, channels
        Of these maps: strides 4, 8, 16, 32, or four times the same.
    options
        What `timm.create_model` is given besides.
    """

    name: str
    indices: tuple[int, ...]
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    options: dict[str, Any]

    def build(self) -> nn.Module:
        """The untrained network, for `maps`. No weights are ever downloaded."""
        return cast(
            nn.Module,
            timm.create_model(
                self.name, pretrained=False, features_only=True, out_indices=self.indices, **self.options
            ),
        )

    @staticmethod
    def maps(body: nn.Module, image: Tensor) -> list[Tensor]:
        """The four maps of what `build` gave, (N, C, h / s, w / s); some of timm's have their channels last."""
        maps: list[Tensor] = body(image)
        last = getattr(body, "output_fmt", "NCHW") == "NHWC"
        return [features.permute(0, 3, 1, 2) for features in maps] if last else maps


@lru_cache(maxsize=64)
def find_backbone(name: str) -> Backbone:
    """The model that timm has under `name`, looked at without memory for its weights.

    Raises
    ------
    BackboneError
        If timm has none of that name, its maps have other strides, or it takes images of its own size only.
    """
    if name not in timm.list_models():
        model, _, tag = name.partition(".")
        if tag and model in timm.list_models():
            raise BackboneError(
                f"'timm:{name}' names weights of timm; none are downloaded, every network begins untrained: "
                f"write 'timm:{model}'"
            )
        raise BackboneError(f"timm has no model {name!r}; {_near(name)}")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        backbone = _read(name)
        try:
            _probe(backbone)
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BackboneError(
                f"timm's {name!r} cannot be the encoder: it does not take images of any size ({reason}); {_near(name)}"
            ) from None
    return backbone


class TimmEncoder(Encoder):
    """A backbone of timm, its four maps layer-normed since timm's come in any scale.

    A hierarchical backbone gives the pyramid itself. Of a plain one, such as a ViT, the maps after each quarter of its
    blocks are taken, the earliest for the finest stride, and brought to their strides as ViTDet's simple pyramid does
    (Li et al. 2022): transposed convolutions that double the resolution and halve the channels, or max pooling.

    The mask token is a colour: hidden pixels are painted in it before the backbone sees them, as it has no tokens
    that one could replace in the same way for all.

    Parameters
    ----------
    name
        A model of timm, see `find_backbone`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        backbone = find_backbone(name)
        self.name = name
        self.mask_token = nn.Parameter(torch.zeros(3))
        self.body = backbone.build()
        levels = list(zip(backbone.channels, backbone.strides, STRIDES, strict=True))
        self.resamples = nn.ModuleList(_resample(channels, old, new) for channels, old, new in levels)
        self.channels = tuple(channels // max(1, old // new) for channels, old, new in levels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def stage_numbers(self) -> dict[str, int]:
        """See `Encoder.stage_numbers`. A parameter belongs to the first of the four maps that is made with it."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.enable_grad():
            alike = TimmEncoder(self.name).eval()
            maps = alike(torch.empty(1, 3, PROBED_SIZES[0], PROBED_SIZES[0]), None)
            numbers = first_maps(dict(alike.named_parameters()), maps)
            before = stem(self.name)
        numbers["mask_token"] = 0
        numbers |= {name: 0 for name in numbers if flat(name.removeprefix("body.")) in before}
        return {name: numbers.get(name, len(STRIDES)) for name, _ in self.named_parameters()}

    def forward(self, image: Tensor, hidden: Tensor | None) -> list[Tensor]:
        """See `Encoder.forward`."""
        if hidden is not None:
            image = torch.where(hidden, self.mask_token.to(image.dtype).view(1, 3, 1, 1), image)
        levels = zip(Backbone.maps(self.body, image), self.resamples, self.norms, strict=True)
        return [norm(resample(features).permute(0, 2, 3, 1)) for features, resample, norm in levels]


def _resample(channels: int, stride: int, target: int) -> nn.Sequential:
    """From a map of one stride to another: (N, C, h, w) to (N, C * target / stride, ...), or (N, C, ...) if coarser."""
    layers: list[nn.Module] = []
    while stride > target:
        layers += [nn.GELU()] if layers else []
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels, stride = channels // 2, stride // 2
    if stride < target:
        layers.append(nn.MaxPool2d(target // stride))
    return nn.Sequential(*layers)


def _read(name: str) -> Backbone:
    """What timm says of the model's maps; raises BackboneError if the pyramid cannot be made of them."""
    whole = timm.create_model(name, pretrained=False)
    maps = getattr(whole, "feature_info", None) or []
    strides = [int(level["reduction"]) for level in maps]
    if set(STRIDES) <= set(strides):
        # of several maps of a stride the last has seen most
        indices = [max(i for i, stride in enumerate(strides) if stride == wanted) for wanted in STRIDES]
    elif len(set(strides)) == 1 and strides[0] in STRIDES and len(strides) >= len(STRIDES):
        indices = [len(strides) * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    else:
        found = f"its feature maps have strides {strides}" if strides else "it gives no feature maps"
        raise BackboneError(
            f"timm's {name!r} cannot be the encoder: {found}; needed are maps of strides 4, 8, 16 and 32, "
            f"or four or more of one of these; {_near(name)}"
        )
    accepted = inspect.signature(type(whole).__init__).parameters
    return Backbone(
        name,
        tuple(indices),
        tuple(strides[i] for i in indices),
        tuple(int(maps[i]["num_chs"]) for i in indices),
        {key: value for key, value in ANY_SIZE.items() if key in accepted},
    )


@torch.no_grad()
def _probe(backbone: Backbone) -> None:
    """Raise what the model raises at some sizes, or ValueError if its maps are not what timm says of them."""
    body = backbone.build().eval()
    for size in PROBED_SIZES:
        shapes = [tuple(features.shape[1:]) for features in Backbone.maps(body, torch.empty(1, 3, size, size))]
        wanted = [(c, size // s, size // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
        if shapes != wanted:
            raise ValueError(f"maps of an image of {size} px have shapes {shapes}, not {wanted}")


def _near(name: str) -> str:
    close = [near for near in get_close_matches(name, timm.list_models(), n=4) if near != name]
    found = f"near it are {', '.join(close)}" if close else "nothing is near it"
    return f"{found}; some that serve: {', '.join(EXAMPLES)}"
