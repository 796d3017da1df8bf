"""The vision model with what a search has learnt on top: a stamp in, the chance that it is wanted out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .card import ModelCard
from .linear_preference import LinearPreference
from .lvm import GalaxyLVM, architecture, from_architecture
from .search_view import View


class SearchNetwork(nn.Module):
    """Calibrated chance of a linear preference on what a search looks at, standardised (`search_view`).

    Parameters
    ----------
    view
        What that is.
    """

    def __init__(self, encoder: GalaxyLVM, view: View) -> None:
        super().__init__()
        self.encoder = encoder
        self.view = view
        size = encoder.embedding_size + len(view.columns)
        self.register_buffer("weights", torch.zeros(size))
        self.register_buffer("intercept", torch.zeros(()))

    @classmethod
    def of(
        cls,
        encoder: GalaxyLVM,
        view: View,
        linear: LinearPreference,
        mean: np.ndarray[Any, Any],
        spread: np.ndarray[Any, Any],
    ) -> SearchNetwork:
        """The network of a preference that was fitted to (seen - mean) / spread.

        Standardising is put into weights and intercept, so that it cannot be forgotten.
        """
        network = cls(encoder, view)
        weights = linear.weights / np.asarray(spread, np.float64)
        cast(Tensor, network.weights).copy_(torch.from_numpy(weights))
        intercept = linear.intercept - float(weights @ np.asarray(mean, np.float64))
        cast(Tensor, network.intercept).fill_(intercept)
        return network

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..1 to (N,) probabilities."""
        seen = self.view.of_stamps(self.encoder, rgb)
        return torch.sigmoid(seen @ cast(Tensor, self.weights) + cast(Tensor, self.intercept))

    @torch.inference_mode()
    def predict_columns(
        self, rgb: Tensor, border: int = 0, flux: Tensor | None = None
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Column `p_wanted`, (N,) float32."""
        return {"p_wanted": self.forward(rgb).float().cpu().numpy()}


def search_architecture(network: SearchNetwork) -> Mapping[str, Any]:
    """What the card keeps."""
    return {"kind": "search", "encoder": architecture(network.encoder), "view": asdict(network.view)}


def build(card: ModelCard) -> SearchNetwork:
    """The untrained network of a card of kind `search`."""
    return SearchNetwork(from_architecture(card.architecture["encoder"]), View(**card.architecture["view"]))
