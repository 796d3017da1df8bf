"""Our own encoder: the Swin Transformer of SUNet, behind a convolution that sees every pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .encoder import STRIDES, Encoder, initialise_linear
from .swin import PatchMerging, SwinStage

PATCH = STRIDES[0]


class SwinEncoder(Encoder):
    """Four stages of Swin blocks, each with twice the channels of the one before; the last map is layer-normed.

    The mask token stands for a whole token of the first stage: a patch of 4 x 4 pixels with any hidden pixel is hidden.

    Parameters
    ----------
    channels
        Of the first stage.
    depths, heads
        Blocks and attention heads of each stage.
    drop_path
        Stochastic depth of the last block; rises from 0 in proportion to depth.
    """

    def __init__(
        self,
        channels: int,
        depths: tuple[int, int, int, int],
        heads: tuple[int, int, int, int],
        window: int,
        mlp_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels * 2**stage for stage in range(len(STRIDES)))
        self.shallow = nn.Conv2d(3, channels, 3, padding=1)
        self.patch_embedding = nn.Conv2d(channels, channels, PATCH, stride=PATCH)
        self.patch_norm = nn.LayerNorm(channels)
        self.mask_token = nn.Parameter(torch.zeros(channels))
        rates = [drop_path * block / max(1, sum(depths) - 1) for block in range(sum(depths))]
        ends = [sum(depths[: stage + 1]) for stage in range(len(STRIDES))]
        levels = zip(self.channels, depths, heads, ends, strict=True)
        self.stages = nn.ModuleList(
            SwinStage(width, depth, count, window, mlp_ratio, rates[end - depth : end])
            for width, depth, count, end in levels
        )
        self.merges = nn.ModuleList(PatchMerging(width) for width in self.channels[:3])
        self.norm = nn.LayerNorm(self.channels[3])

    def initialise(self) -> None:
        """Linear layers as Swin has them."""
        self.apply(initialise_linear)

    def stage_numbers(self) -> dict[str, int]:
        """See `Encoder.stage_numbers`."""
        return {name: _stage_number(*name.split(".")[:2]) for name, _ in self.named_parameters()}

    def forward(self, image: Tensor, hidden: Tensor | None) -> list[Tensor]:
        """See `Encoder.forward`."""
        tokens = self.patch_embedding(self.shallow(image)).permute(0, 2, 3, 1)
        tokens = self.patch_norm(tokens)
        if hidden is not None:
            # a patch with any hidden pixel is hidden
            covered = functional.max_pool2d(hidden.to(tokens.dtype), PATCH).permute(0, 2, 3, 1)
            tokens = tokens * (1 - covered) + self.mask_token.to(tokens.dtype) * covered
        maps = []
        for index, stage in enumerate(self.stages):
            tokens = stage(tokens)
            maps.append(tokens if index < 3 else self.norm(tokens))
            if index < 3:
                tokens = self.merges[index](tokens)
        return maps


def _stage_number(part: str, place: str = "") -> int:
    if part == "stages":
        return int(place) + 1
    if part == "merges":
        return int(place) + 2
    return len(STRIDES) if part == "norm" else 0
