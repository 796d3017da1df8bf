"""What GalaxAlign is trained on: which pairs are drawn together in which of its two stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .align import GalaxAlign, symbol_drawings
from .contrastive import multi_positive_loss
from .image_towers import LvmTower
from .prompts import class_prompts
from .symbols import known_symbols
from .training import Objective, encoder_groups

DRAWINGS = 16
"""Drawings of each class that training picks from."""

VIEWS = 4
"""Texts and symbols of each of a table's classes that stand against a batch of images."""


@dataclass(frozen=True)
class PairWeights:
    """How much each pair of modalities counts in the loss."""

    image_text: float = 1.0
    image_symbol: float = 1.0
    symbol_text: float = 0.5


class AlignObjective(Objective):
    """The loss of one stage.

    In both stages symbols and texts of every known class are drawn together, so that classes without
    images have a place in the space as well. Images of one table meet the texts and symbols of that
    table's classes, and no others; in stage 1 through a projection of the frozen tower's features, which
    gives stage 2 a better start than a random one and costs a forward pass.

    Parameters
    ----------
    stage
        1: the image tower is frozen and only its projection learns; 2: everything learns.
    to_rgb
        A batch's stamps and a generator to (N, 3, h, w) RGB in 0..1, augmented.
    image_rate
        Learning rate of the image tower, in units of the others', for stage 2.
    layer_decay
        Of the stages of a tower that is our own LVM; see `encoder_groups`.
    """

    tokens: Tensor
    ink: Tensor

    def __init__(
        self,
        network: GalaxAlign,
        stage: int,
        to_rgb: Callable[[Tensor, torch.Generator], Tensor],
        weights: PairWeights,
        image_rate: float = 1.0,
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.to_rgb = to_rgb
        self.weights = weights
        self.image_rate = image_rate
        self.layer_decay = layer_decay
        names = known_symbols()
        tokens = torch.stack([network.tokenize(class_prompts(name)) for name in names])
        ink = torch.stack([symbol_drawings(name, DRAWINGS, seed=1) for name in names])
        self.register_buffer("tokens", tokens, persistent=False)  # (classes, sentences, 28)
        self.register_buffer("ink", ink, persistent=False)  # (classes, DRAWINGS, 1, 48, 48)
        self.bank_rows = {
            table: torch.tensor([names.index(meaning) for meaning in meanings])
            for table, meanings in network.meanings.items()
        }
        self.trained = [p for p in network.image_tower.parameters() if p.requires_grad]
        for parameter in self.trained:
            parameter.requires_grad_(stage == 2)

    def release(self) -> None:
        """Let the image tower learn again after stage 1."""
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The image tower at its own rate, everything else at the full one."""
        network = self.network
        fresh = (network.image_projection, network.symbol_tower, network.text_tower, network.scale)
        groups: list[dict[str, Any]] = [{"module": part, "learning_rate_scale": 1.0} for part in fresh]
        tower = network.image_tower
        if self.layer_decay == 1 or not isinstance(tower, LvmTower):
            return [*groups, {"module": tower, "learning_rate_scale": self.image_rate}]
        stages = encoder_groups(tower.lvm, self.image_rate, self.layer_decay)
        return [*groups, *stages, {"module": tower.norms, "learning_rate_scale": self.image_rate}]

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss of one batch: `images` (N, C, H, W), `classes` (N,) codes within the table named by `table`."""
        device = batch["images"].device
        everyone = torch.arange(len(self.tokens), device=device)
        table_rows = self.bank_rows[batch["table"]].to(device)
        rows = torch.cat([everyone, table_rows.repeat(VIEWS)])
        codes = torch.arange(len(table_rows), device=device).repeat(VIEWS)
        texts = self.network.encode_tokens(self.tokens[rows, self._picks(rows, self.tokens.shape[1], generator)])
        symbols = self.network.encode_drawings(self.ink[rows, self._picks(rows, self.ink.shape[1], generator)])
        images = self._images(batch["images"], generator)
        scale = self.network.scale()
        many = len(everyone)
        classes = batch["classes"]
        losses = {
            "image_text": multi_positive_loss(images, texts[many:], classes, codes, scale),
            "image_symbol": multi_positive_loss(images, symbols[many:], classes, codes, scale),
            "symbol_text": multi_positive_loss(symbols, texts, rows, rows, scale),
        }
        loss = cast(Tensor, sum(getattr(self.weights, pair) * value for pair, value in losses.items()))
        metrics = {pair: value.detach() for pair, value in losses.items()}
        return loss, {**metrics, "scale": scale.detach()}

    def _images(self, stamps: Tensor, generator: torch.Generator) -> Tensor:
        rgb = self.to_rgb(stamps, generator)
        if self.stage == 2:
            return self.network.encode_images(rgb)
        with torch.no_grad():
            features = self.network.image_tower(rgb)
        return self.network.project(features)

    def _picks(self, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(count, rows.shape, generator=generator, device=rows.device)
