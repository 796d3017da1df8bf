"""GalaxAlign: galaxy images, schematic symbols and words in one space, and classification by nearest prototype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .card import ModelCard
from .contrastive import LogitScale
from .image_towers import LvmTower, OpenClipTower, build_image_tower
from .prompts import class_prompts
from .symbols import canonical_classes, draw_symbol

SYMBOL_SIZE = 48
SYMBOL_PATCH = 8
INK_MEAN, INK_SPREAD = 0.15, 0.3
"""Mean and standard deviation of the symbols' pixels, about; standardised, they are learned faster."""

CONTEXT_LENGTH = 28
"""Tokens of a text; longer ones are cut. Our own prompts have at most 25."""

TOWER_WIDTH = 64
TOWER_LAYERS = 2
TOWER_HEADS = 4
PROTOTYPE_DRAWINGS = 16
"""Drawings, by different hands, whose mean embedding is the symbol prototype of a class."""


class GalaxAlign(nn.Module):
    """Three encoders into one space, and the prototypes of every class.

    Parameters
    ----------
    image_tower
        From `image_towers`.
    embedding_size
        D, dimensions of the common space.
    tables
        Label table to its classes; the classes of a table compete with each other only.

    Attributes
    ----------
    meanings
        Label table to its classes' canonical names, by which their symbols and sentences are known.
    text_prototypes, symbol_prototypes
        (C, D) unit vectors, tables one after another; part of the weights.
    text_share, sharpness
        (T,) for each table the share of the text in the score, 0 to 1, and the inverse temperature.
    """

    text_prototypes: Tensor
    symbol_prototypes: Tensor
    text_share: Tensor
    sharpness: Tensor

    def __init__(
        self, image_tower: LvmTower | OpenClipTower, embedding_size: int, tables: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__()
        from open_clip.transformer import TextTransformer, VisionTransformer  # slow to import, used only here

        self.tables = {name: list(classes) for name, classes in tables.items()}
        self.meanings = {name: canonical_classes(classes) for name, classes in self.tables.items()}
        self.embedding_size = embedding_size
        self.image_tower = image_tower
        self.image_projection = nn.Linear(image_tower.features, embedding_size, bias=False)
        self.symbol_tower = VisionTransformer(
            image_size=SYMBOL_SIZE,
            patch_size=SYMBOL_PATCH,
            width=TOWER_WIDTH,
            layers=TOWER_LAYERS,
            heads=TOWER_HEADS,
            mlp_ratio=4.0,
            output_dim=embedding_size,
            pool_type="avg",
        )
        self.text_tower = TextTransformer(
            context_length=CONTEXT_LENGTH,
            width=TOWER_WIDTH,
            heads=TOWER_HEADS,
            layers=TOWER_LAYERS,
            output_dim=embedding_size,
        )
        self.scale = LogitScale()
        classes = sum(len(names) for names in self.tables.values())
        self.register_buffer("text_prototypes", torch.zeros(classes, embedding_size))
        self.register_buffer("symbol_prototypes", torch.zeros(classes, embedding_size))
        self.register_buffer("text_share", torch.full((len(self.tables),), 0.5))
        self.register_buffer("sharpness", torch.full((len(self.tables),), 1 / 0.07))
        self._tokenizer: Any = None

    def encode_images(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) RGB in 0..1 to unit vectors (N, D)."""
        return self.project(self.image_tower(rgb))

    def project(self, features: Tensor) -> Tensor:
        """Features of the image tower (N, F) to unit vectors (N, D)."""
        return functional.normalize(self.image_projection(features).float(), dim=1)

    def encode_drawings(self, ink: Tensor) -> Tensor:
        """(N, 1, 48, 48) ink in 0..1 to unit vectors (N, D)."""
        with torch.autocast(ink.device.type, enabled=False):  # so small a network is faster without
            standard = (ink - INK_MEAN) / INK_SPREAD
            return functional.normalize(self.symbol_tower(standard.expand(-1, 3, -1, -1)), dim=1)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """(N, 28) tokens of `tokenize` to unit vectors (N, D)."""
        with torch.autocast(tokens.device.type, enabled=False):
            return functional.normalize(self.text_tower(tokens), dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Any texts to unit vectors (N, D)."""
        return self.encode_tokens(self.tokenize(texts).to(self.text_prototypes.device))

    def encode_symbols(self, names: Sequence[str]) -> Tensor:
        """Symbols of classes, by name, to unit vectors (N, D): the mean over several drawings.

        Raises
        ------
        UnknownClassError
            If there is no symbol of a name; the message lists those that exist.
        """
        means = []
        for name in names:
            ink = symbol_drawings(name, PROTOTYPE_DRAWINGS, seed=0).to(self.symbol_prototypes)
            means.append(self.encode_drawings(ink).mean(dim=0))
        return functional.normalize(torch.stack(means), dim=1)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """(N, 28) int64, with the byte-pair vocabulary that open_clip ships."""
        if self._tokenizer is None:
            from open_clip.tokenizer import SimpleTokenizer

            self._tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)
        return cast(Tensor, self._tokenizer(list(texts)))

    @torch.inference_mode()
    def update_prototypes(self) -> None:
        """Compute the class prototypes anew from the present towers."""
        classes = [name for names in self.meanings.values() for name in names]
        texts = [self.encode_texts(class_prompts(name)).mean(dim=0) for name in classes]
        self.text_prototypes.copy_(functional.normalize(torch.stack(texts), dim=1))
        self.symbol_prototypes.copy_(self.encode_symbols(classes))

    def modality_scores(self, embedding: Tensor, table: str) -> tuple[Tensor, Tensor]:
        """Cosines (N, K) of images with the text and with the symbol prototypes of one table."""
        part = self._rows(table)
        return embedding @ self.text_prototypes[part].T, embedding @ self.symbol_prototypes[part].T

    def class_probabilities(self, embedding: Tensor, table: str) -> Tensor:
        """(N, D) unit vectors to (N, K): softmax over the classes of one table of the mixed cosines."""
        index = list(self.tables).index(table)
        share = self.text_share[index]
        text, symbol = self.modality_scores(embedding, table)
        return torch.softmax(self.sharpness[index] * (share * text + (1 - share) * symbol), dim=1)

    def class_columns(self, table: str) -> list[str]:
        """Names of a table's columns: `p_<class>`, or `p_<table>_<class>` for a class of several tables."""
        everywhere = [name for names in self.tables.values() for name in names]
        return [f"p_{name}" if everywhere.count(name) == 1 else f"p_{table}_{name}" for name in self.tables[table]]

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor, border: int = 0, flux: Tensor | None = None) -> dict[str, np.ndarray]:
        """`p_<class>` (N,) and `embedding` (N, D), float32."""
        embedding = self.encode_images(rgb)
        columns: dict[str, np.ndarray] = {}
        for table in self.tables:
            probabilities = self.class_probabilities(embedding, table).cpu().numpy()
            columns.update(zip(self.class_columns(table), probabilities.T, strict=True))
        columns["embedding"] = embedding.cpu().numpy()
        return columns

    def describe(self) -> dict[str, Any]:
        """The `architecture` of the model card."""
        return {
            "kind": "align",
            "embedding_size": self.embedding_size,
            # a list, because the order of the tables is the order of the prototypes and JSON keys get sorted
            "tables": [{"name": name, "classes": classes} for name, classes in self.tables.items()],
            "image_tower": self.image_tower.describe(),
        }

    def _rows(self, table: str) -> slice:
        start = 0
        for name, classes in self.tables.items():
            if name == table:
                return slice(start, start + len(classes))
            start += len(classes)
        raise KeyError(f"no table {table!r}; there are {list(self.tables)}")


@cache
def symbol_drawings(name: str, count: int, seed: int) -> Tensor:
    """(count, 1, 48, 48) float32 ink: drawings of one class, each jittered. Kept, so do not write into it."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([draw_symbol(name, SYMBOL_SIZE, generator) for _ in range(count)]))


def build(card: ModelCard) -> GalaxAlign:
    """The untrained network of a card of kind `align`."""
    content = card.architecture
    tables = {table["name"]: table["classes"] for table in content["tables"]}
    return GalaxAlign(build_image_tower(content["image_tower"]), int(content["embedding_size"]), tables)
