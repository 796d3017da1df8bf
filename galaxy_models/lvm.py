"""The large vision model: an encoder with four stages, ours or one of timm's, and a Swin decoder on top; RGB to RGB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .card import CardError, ModelCard
from .encoder import STRIDES, Encoder, initialise_linear
from .inputs import InputError, explain_size, is_legal_size
from .morphometry import MEASURED_COLUMNS, measure
from .outline import outlined
from .pooling import mean_and_spread
from .ring_structure import RING_COLUMNS, measure_rings
from .swin import SwinStage
from .swin_encoder import SwinEncoder
from .timm_encoder import BackboneError, TimmEncoder
from .upsample import DualUpsample
from .volunteer_answers import TOLD_COLUMNS, AnswersHead

PATCH = STRIDES[0]
"""Pixels along a side of a token of the first stage."""

STRIDE = STRIDES[-1]
"""Pixels along a side of a token of the last stage; inputs are padded to a multiple of it."""

TIMM = "timm:"
"""What a preset begins with that takes a backbone of timm for the encoder, such as `timm:convnext_nano`."""


@dataclass(frozen=True)
class LvmConfiguration:
    """All that the network with our own encoder is built from.

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

    def encoder(self) -> Encoder:
        """The encoder, weights yet to be initialised."""
        return SwinEncoder(self.channels, self.depths, self.heads, self.window, self.mlp_ratio, self.drop_path)


@dataclass(frozen=True)
class TimmConfiguration:
    """All that the network with an encoder of timm is built from; the decoder's numbers are those of `small`.

    Attributes
    ----------
    backbone
        Name of the model in timm.
    channels
        Of the decoder at stride 4, whatever the encoder's; twice and four times as many at strides 8 and 16.
    decoder_depths
        Swin blocks of the decoder at strides 16, 8, 4.
    heads
        Attention heads of the decoder at strides 4, 8, 16.
    """

    backbone: str
    channels: int = 48
    decoder_depths: tuple[int, int, int] = (2, 2, 2)
    heads: tuple[int, int, int] = (3, 6, 12)
    window: int = 8
    mlp_ratio: float = 4.0

    def encoder(self) -> Encoder:
        """The encoder, with timm's own initial weights."""
        return TimmEncoder(self.backbone)


Configuration = LvmConfiguration | TimmConfiguration

PRESETS = {
    "nano": LvmConfiguration(24, (2, 2, 2, 1), (1, 1, 1), (2, 4, 4, 4)),
    "small": LvmConfiguration(48, (2, 2, 8, 2), (2, 2, 2), (3, 6, 12, 24), drop_path=0.05),
    # SUNet's own configuration, except that attention is scaled by 1 / sqrt(d) and not multiplied by 8
    "base": LvmConfiguration(96, (8, 8, 8, 8), (8, 8, 8), (8, 8, 8, 8), drop_path=0.1),
}


class GalaxyLVM(nn.Module):
    """Encoder with four stages, decoder with skips, RGB in and RGB out.

    Parameters
    ----------
    tells_answers
        Whether it has a head that tells what volunteers would say (`volunteer_answers`); pre-training has to teach it.

    Attributes
    ----------
    encoder
        See `Encoder`.
    channels
        Channels of the four encoder maps.
    embedding_size
        Dimensions of `embed`.
    encodes_in_bfloat16
        Whether `encode` computes in bfloat16 by itself, for inference; its maps are of full precision all the same.
    """

    def __init__(self, configuration: Configuration, preset: str = "", tells_answers: bool = False) -> None:
        super().__init__()
        self.configuration = configuration
        self.preset = preset
        self.encodes_in_bfloat16 = False
        # RGB is standardised inside; pre-training measures the numbers and they travel with the weights
        self.register_buffer("rgb_mean", torch.zeros(3))
        self.register_buffer("rgb_spread", torch.ones(3))
        self.encoder = configuration.encoder()
        self.channels = self.encoder.channels
        self.embedding_size = self.channels[1] + self.channels[2]
        first = configuration.channels
        widths = (4 * first, 2 * first, first)  # of the decoder at strides 16, 8, 4
        below = (self.channels[3], *widths[:2])
        skips = self.channels[2::-1]
        self.upsamples = nn.ModuleList(DualUpsample(*pair, factor=2) for pair in zip(below, widths, strict=True))
        self.joins = nn.ModuleList(nn.Linear(w + skip, w) for w, skip in zip(widths, skips, strict=True))
        levels = zip(widths, configuration.decoder_depths, configuration.heads[2::-1], strict=True)
        self.decoder_stages = nn.ModuleList(
            SwinStage(width, depth, heads, configuration.window, configuration.mlp_ratio, [0.0] * depth)
            for width, depth, heads in levels
        )
        self.decoder_norm = nn.LayerNorm(first)
        self.final_upsample = DualUpsample(first, first, PATCH)
        self.to_rgb = nn.Conv2d(first, 3, 3, padding=1, bias=False)
        self._initialise()
        # the last, so that the other weights are the same with and without it
        self.answers = AnswersHead(2 * sum(self.channels)).apply(initialise_linear) if tells_answers else None
        if isinstance(self.encoder, SwinEncoder):
            self.register_state_dict_post_hook(_flatten_names)
            self.register_load_state_dict_pre_hook(_nest_names)

    def _initialise(self) -> None:
        self.encoder.initialise()
        for part in self.children():
            if part is not self.encoder:
                part.apply(initialise_linear)
        nn.init.trunc_normal_(self.encoder.mask_token, std=0.02)

    def encode(self, rgb: Tensor, hidden: Tensor | None = None) -> list[Tensor]:
        """The pyramid of feature maps.

        Parameters
        ----------
        rgb
            (N, 3, h, w) in 0..1, h and w multiples of 8 from 32 to 512; padded at the borders to multiples of 32.
        hidden
            (N, 1, h, w) bool, pixels that must not be seen; whole patches of 4 x 4 pixels.

        Returns
        -------
        list of Tensor
            (N, C_i, H_i, W_i) with strides 4, 8, 16 and 32 of the padded image; the last one is layer-normed.

        Raises
        ------
        InputError
            If a side is not legal; the message names the nearest that are.
        """
        if self.encodes_in_bfloat16:
            with torch.autocast(rgb.device.type, dtype=torch.bfloat16):
                maps = [features.float() for features in self.encoder(*self._prepare(rgb, hidden))]
        else:
            maps = self.encoder(*self._prepare(rgb, hidden))
        return [features.permute(0, 3, 1, 2) for features in maps]

    def embed(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to (N, `embedding_size`): how strongly each feature of strides 8 and 16 varies over the stamp.

        The standard deviation over positions does not care where a galaxy's arm lies. The last map is left out: the
        skips let the decoder do without it, so that pre-training alone leaves it the poorest. A mean over `looks` keeps
        galaxies apart that differ, and not those that only lie otherwise.
        """
        return self.describe(rgb)[0]

    def describe(self, rgb: Tensor) -> tuple[Tensor, Tensor | None]:
        """All that is told of an image (N, 3, h, w), the mean over its `looks`.

        Returns
        -------
        Tensor
            (N, `embedding_size`), see `embed`.
        Tensor or None
            (N, answers) chances that a volunteer of the simulator gives each answer, see `tell`; None if it has not
            been taught them.
        """
        embeddings, chances = [], []
        for look in looks(rgb):
            maps = self.encode(look)
            embeddings.append(_spreads(maps))
            if self.answers is not None:
                chances.append(self.tell(mean_and_spread(maps)).exp())
        return torch.stack(embeddings).mean(dim=0), torch.stack(chances).mean(dim=0) if chances else None

    def forward(self, rgb: Tensor, hidden: Tensor | None = None) -> Tensor:
        """(N, 3, h, w) in 0..1 to its reconstruction (N, 3, h, w); see `encode` for `hidden`. Not clipped to 0..1."""
        height, width = rgb.shape[-2:]
        image, hidden = self._prepare(rgb, hidden)
        decoded = self._decode(self.encoder(image, hidden)).float()
        top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
        decoded = decoded[..., top : top + height, left : left + width]
        return decoded * _per_channel(self.rgb_spread) + _per_channel(self.rgb_mean)

    def tell(self, pooled: Tensor) -> Tensor:
        """What volunteers would say.

        Parameters
        ----------
        pooled
            (N, 2 sum `channels`), the maps of `encode` through `pooling.mean_and_spread`.

        Returns
        -------
        Tensor
            (N, answers) float32 log-chances, in the order of `volunteer_answers.PLACES`.

        Raises
        ------
        ValueError
            If the network has not been taught answers.
        """
        if self.answers is None:
            raise ValueError("this network was not taught volunteers' answers; pre-train it with the pretext `answers`")
        return cast(Tensor, self.answers(pooled))

    def set_rgb_statistics(self, mean: Tensor, spread: Tensor) -> None:
        """Set what RGB is standardised with: mean and standard deviation of each channel over the train stamps."""
        cast(Tensor, self.rgb_mean).copy_(mean)
        cast(Tensor, self.rgb_spread).copy_(spread.clamp_min(1e-3))

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor, border: int = 0, flux: Tensor | None = None) -> dict[str, np.ndarray]:
        """Column `embedding`, (N, D) float32, and `measured_<measure>`, what is measured on the picture and its rings.

        A network that tells answers has `told_<question>_<answer>` as well: the chances that a volunteer of the
        simulator gives the answer when asked the question. All but the embedding are (N,) float32.
        """
        embedding, chances = self.describe(rgb)
        columns = {"embedding": embedding.cpu().numpy()}
        galaxy = outlined(rgb)
        columns |= dict(zip(MEASURED_COLUMNS, measure(galaxy).cpu().numpy().T, strict=True))
        columns |= dict(zip(RING_COLUMNS, measure_rings(galaxy).cpu().numpy().T, strict=True))
        if chances is not None:
            columns |= dict(zip(TOLD_COLUMNS, chances.cpu().numpy().T, strict=True))
        return columns

    def _prepare(self, rgb: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Standardise, hide and pad, the image in the middle."""
        height, width = rgb.shape[-2:]
        for side in (height, width):
            if not is_legal_size(side):
                raise InputError(f"the network was given images of {width} x {height} px; {explain_size(side)}")
        image = (rgb - _per_channel(self.rgb_mean)) / _per_channel(self.rgb_spread)
        image = image.contiguous(memory_format=torch.channels_last)  # as the token maps lie; a seventh faster
        if hidden is not None:
            image = image.masked_fill(hidden, 0.0)
        border = padding(height, width)
        if any(border):
            image = functional.pad(image, border, mode="replicate")
            if hidden is not None:
                hidden = functional.pad(hidden, border)
        return image, hidden

    def _decode(self, maps: list[Tensor]) -> Tensor:
        tokens = maps[3]
        levels = zip(maps[2::-1], self.upsamples, self.joins, self.decoder_stages, strict=True)
        for skip, upsample, join, stage in levels:
            larger = upsample(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            tokens = stage(join(torch.cat([larger, skip], dim=-1)))
        tokens = self.decoder_norm(tokens)
        return cast(Tensor, self.to_rgb(self.final_upsample(tokens.permute(0, 3, 1, 2))))


LOOKS = 4
"""Images that `looks` makes of one."""


def looks(rgb: Tensor) -> Iterator[Tensor]:
    """An image (N, 3, h, w) as it is, turned by a quarter, and the mirror images of both.

    So four elongated galaxies become one that differ by how they lie; what is turned by half is seen alike anyway.
    """
    for image in (rgb, rgb.flip(3)):
        yield image
        yield torch.rot90(image, 1, (2, 3))


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels that are added left, right, above and below, so that whole tokens of every stage cover an image."""
    short, narrow = -height % STRIDE, -width % STRIDE
    return narrow // 2, narrow - narrow // 2, short // 2, short - short // 2


def build_lvm(preset: str, tells_answers: bool = False) -> GalaxyLVM:
    """The untrained network of a preset: `nano`, `small`, `base`, or `timm:NAME` with that model for the encoder.

    Raises
    ------
    ValueError
        If there is no such preset, or timm's model cannot be the encoder; the message names what comes near.
    """
    if preset.startswith(TIMM):
        return GalaxyLVM(TimmConfiguration(preset.removeprefix(TIMM)), preset, tells_answers)
    if preset not in PRESETS:
        close = get_close_matches(preset, PRESETS, n=1)
        raise ValueError(
            f"preset is {preset!r}; {f'did you mean {close[0]!r}? ' if close else ''}there are {sorted(PRESETS)}, "
            f"and {TIMM}NAME for the models of timm, such as 'timm:convnext_nano'"
        )
    return GalaxyLVM(PRESETS[preset], preset, tells_answers)


def architecture(network: GalaxyLVM) -> dict[str, Any]:
    """What a model card keeps of the network, JSON values; `from_architecture` builds it again."""
    content = {key: _plain(value) for key, value in asdict(network.configuration).items()}
    told = {} if network.answers is None else {"tells_answers": True}
    return {"preset": network.preset, **content, **told}


def from_architecture(content: Mapping[str, Any]) -> GalaxyLVM:
    """The untrained network that `architecture` described, even if the preset has changed since.

    Raises
    ------
    CardError
        If a key is missing, or this version of timm has no such backbone.
    """
    kind = TimmConfiguration if "backbone" in content else LvmConfiguration
    try:
        values = {key: content[key] for key in kind.__dataclass_fields__}
    except KeyError as error:
        raise CardError(f"the card's architecture lacks {error}; it cannot be rebuilt") from None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return GalaxyLVM(kind(**values), str(content.get("preset", "")), bool(content.get("tells_answers", False)))
    except BackboneError as error:
        raise CardError(f"the card's encoder cannot be built with the timm that is installed: {error}") from error


def build(card: ModelCard) -> GalaxyLVM:
    """The untrained network of a card of kind `lvm`."""
    return from_architecture(card.architecture)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _per_channel(values: Any) -> Tensor:
    return cast(Tensor, values).view(1, 3, 1, 1)


def _spreads(maps: list[Tensor]) -> Tensor:
    return torch.cat([features.float().flatten(2).std(dim=2, correction=0) for features in maps[1:3]], dim=1)


def _flatten_names(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Weights of our own encoder are kept without its prefix: such files are older than the encoder's class."""
    nested = f"{prefix}encoder."
    for name in [name for name in state if name.startswith(nested)]:
        state[prefix + name.removeprefix(nested)] = state.pop(name)


def _nest_names(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """The opposite of `_flatten_names`, before weights are filled in."""
    parts = {name for name, _ in cast(GalaxyLVM, module).encoder.named_children()} | {"mask_token"}
    for name in [name for name in state if name.startswith(prefix)]:
        plain = name.removeprefix(prefix)
        if plain.split(".")[0] in parts:
            state[f"{prefix}encoder.{plain}"] = state.pop(name)
