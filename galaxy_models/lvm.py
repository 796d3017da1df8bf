"""The large vision model: a Swin encoder-decoder of the SUNet family, from RGB to RGB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .card import CardError, ModelCard
from .swin import PatchMerging, SwinStage
from .upsample import DualUpsample

PATCH = 4
"""Pixels along a side of a token of the first stage."""

STRIDE = 32
"""Pixels along a side of a token of the last stage; inputs are padded to a multiple of it."""


@dataclass(frozen=True)
class LvmConfiguration:
    """All that the network is built from.

    Attributes
    ----------
    channels
        Of the first stage; each further stage has twice as many.
    depths
        Swin blocks of the four encoder stages, strides 4, 8, 16, 32.
    decoder_depths
        Swin blocks of the decoder at strides 16, 8, 4.
    heads
        Attention heads of the four stages; the decoder has those of its stride.
    drop_path
        Stochastic depth of the encoder's last block; rises from 0 in proportion to depth.
    """

    channels: int
    depths: tuple[int, int, int, int]
    decoder_depths: tuple[int, int, int]
    heads: tuple[int, int, int, int]
    window: int = 8
    mlp_ratio: float = 4.0
    drop_path: float = 0.0


PRESETS = {
    "nano": LvmConfiguration(24, (2, 2, 2, 1), (1, 1, 1), (2, 4, 4, 4)),
    "small": LvmConfiguration(48, (2, 2, 8, 2), (2, 2, 2), (3, 6, 12, 24), drop_path=0.05),
    # SUNet's own configuration, except that attention is scaled by 1 / sqrt(d) and not multiplied by 8
    "base": LvmConfiguration(96, (8, 8, 8, 8), (8, 8, 8), (8, 8, 8, 8), drop_path=0.1),
}


class GalaxyLVM(nn.Module):
    """Encoder with four stages, decoder with skips, RGB in and RGB out.

    Attributes
    ----------
    channels
        Channels of the four encoder maps.
    embedding_size
        Dimensions of `embed`.
    """

    def __init__(self, configuration: LvmConfiguration, preset: str = "") -> None:
        super().__init__()
        self.configuration = configuration
        self.preset = preset
        first = configuration.channels
        self.channels: tuple[int, ...] = tuple(first * 2**stage for stage in range(4))
        self.embedding_size = self.channels[1] + self.channels[2]
        # RGB is standardised inside; pre-training measures the numbers and they travel with the weights
        self.register_buffer("rgb_mean", torch.zeros(3))
        self.register_buffer("rgb_spread", torch.ones(3))
        self.shallow = nn.Conv2d(3, first, 3, padding=1)
        self.patch_embedding = nn.Conv2d(first, first, PATCH, stride=PATCH)
        self.patch_norm = nn.LayerNorm(first)
        self.mask_token = nn.Parameter(torch.zeros(first))
        self.stages = nn.ModuleList(self._encoder_stages())
        self.merges = nn.ModuleList(PatchMerging(channels) for channels in self.channels[:3])
        self.norm = nn.LayerNorm(self.channels[3])
        self.upsamples = nn.ModuleList(DualUpsample(channels, 2) for channels in self.channels[:0:-1])
        self.joins = nn.ModuleList(nn.Linear(2 * channels, channels) for channels in self.channels[2::-1])
        self.decoder_stages = nn.ModuleList(self._decoder_stages())
        self.decoder_norm = nn.LayerNorm(first)
        self.final_upsample = DualUpsample(first, PATCH)
        self.to_rgb = nn.Conv2d(first, 3, 3, padding=1, bias=False)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def _encoder_stages(self) -> list[SwinStage]:
        shape = self.configuration
        blocks = sum(shape.depths)
        rates = [shape.drop_path * block / max(1, blocks - 1) for block in range(blocks)]
        stages, start = [], 0
        for channels, depth, heads in zip(self.channels, shape.depths, shape.heads, strict=True):
            drop_paths = rates[start : start + depth]
            stages.append(SwinStage(channels, depth, heads, shape.window, shape.mlp_ratio, drop_paths))
            start += depth
        return stages

    def _decoder_stages(self) -> list[SwinStage]:
        shape = self.configuration
        levels = zip(self.channels[2::-1], shape.decoder_depths, shape.heads[2::-1], strict=True)
        return [SwinStage(c, depth, heads, shape.window, shape.mlp_ratio, [0.0] * depth) for c, depth, heads in levels]

    def encode(self, rgb: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        """The pyramid of feature maps.

        Parameters
        ----------
        rgb
            (N, 3, h, w) in 0..1, any h and w; padded at the borders to multiples of 32.
        hidden
            (N, 1, h, w) bool, pixels that must not be seen; whole patches of 4 x 4 pixels.

        Returns
        -------
        list of Tensor
            (N, C_i, H_i, W_i) with strides 4, 8, 16 and 32 of the padded image; the last one is layer-normed.
        """
        maps = self._encode(*self._prepare(rgb, hidden))
        return [features.permute(0, 3, 1, 2) for features in maps]

    def embed(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to (N, `embedding_size`): how strongly each feature of strides 8 and 16 varies over the stamp.

        The standard deviation over positions does not care where a galaxy's arm lies or how it is turned. The last map
        is left out: the skips let the decoder do without it, so that pre-training alone leaves it the poorest.
        """
        maps = self._encode(*self._prepare(rgb, None))
        spreads = [features.float().flatten(1, 2).std(dim=1, correction=0) for features in maps[1:3]]
        return torch.cat(spreads, dim=1)

    def forward(self, rgb: Tensor, hidden: Tensor | None = None) -> Tensor:
        """(N, 3, h, w) in 0..1 to its reconstruction (N, 3, h, w); see `encode` for `hidden`. Not clipped to 0..1."""
        height, width = rgb.shape[-2:]
        image, hidden = self._prepare(rgb, hidden)
        decoded = self._decode(self._encode(image, hidden)).float()
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        decoded = decoded[..., top : top + height, left : left + width]
        return decoded * _per_channel(self.rgb_spread) + _per_channel(self.rgb_mean)

    def set_rgb_statistics(self, mean: Tensor, spread: Tensor) -> None:
        """Set what RGB is standardised with: mean and standard deviation of each channel over the train stamps."""
        cast(Tensor, self.rgb_mean).copy_(mean)
        cast(Tensor, self.rgb_spread).copy_(spread.clamp_min(1e-3))

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor, border: int = 0) -> dict[str, np.ndarray]:
        """Column `embedding`, (N, D) float32."""
        return {"embedding": self.embed(rgb).float().cpu().numpy()}

    def _prepare(self, rgb: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Standardise, hide and pad, the image in the middle."""
        image = (rgb - _per_channel(self.rgb_mean)) / _per_channel(self.rgb_spread)
        image = image.contiguous(memory_format=torch.channels_last)  # as the token maps lie; a seventh faster
        if hidden is not None:
            image = image.masked_fill(hidden, 0.0)
        height, width = rgb.shape[-2:]
        if height % STRIDE or width % STRIDE:
            short, narrow = -height % STRIDE, -width % STRIDE
            border = (narrow // 2, narrow - narrow // 2, short // 2, short - short // 2)
            image = functional.pad(image, border, mode="replicate")
            if hidden is not None:
                hidden = functional.pad(hidden, border)
        return image, hidden

    def _encode(self, image: Tensor, hidden: Tensor | None) -> list[Tensor]:
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

    def _decode(self, maps: list[Tensor]) -> Tensor:
        tokens = maps[3]
        levels = zip(maps[2::-1], self.upsamples, self.joins, self.decoder_stages, strict=True)
        for skip, upsample, join, stage in levels:
            larger = upsample(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            tokens = stage(join(torch.cat([larger, skip], dim=-1)))
        tokens = self.decoder_norm(tokens)
        return cast(Tensor, self.to_rgb(self.final_upsample(tokens.permute(0, 3, 1, 2))))


def build_lvm(preset: str) -> GalaxyLVM:
    """The untrained network of a preset: `nano`, `small` or `base`."""
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; there are {sorted(PRESETS)}")
    return GalaxyLVM(PRESETS[preset], preset)


def architecture(network: GalaxyLVM) -> dict[str, Any]:
    """What a model card keeps of the network, JSON values; `from_architecture` builds it again."""
    return {"preset": network.preset, **{key: _plain(value) for key, value in asdict(network.configuration).items()}}


def from_architecture(content: Mapping[str, Any]) -> GalaxyLVM:
    """The untrained network that `architecture` described, even if the preset has changed since."""
    try:
        values = {key: content[key] for key in LvmConfiguration.__dataclass_fields__}
    except KeyError as error:
        raise CardError(f"the card's architecture lacks {error}; it cannot be rebuilt") from None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return GalaxyLVM(LvmConfiguration(**values), str(content.get("preset", "")))


def build(card: ModelCard) -> GalaxyLVM:
    """The untrained network of a card of kind `lvm`."""
    return from_architecture(card.architecture)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _per_channel(values: Any) -> Tensor:
    return cast(Tensor, values).view(1, 3, 1, 1)


def _initialise(module: nn.Module) -> None:
    """Truncated normal of 0.02 for linear layers, as Swin; convolutions keep PyTorch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
