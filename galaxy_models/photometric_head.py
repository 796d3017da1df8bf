"""The head of parameters where fluxes are known: it answers from photometry and picture together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .heads import ParameterHead
from .schedule import rate_at

FARTHEST = 5.0
"""Spreads from the mean at which a standardised measure is cut off: what is farther is most often no galaxy's."""

EPOCHS, MOST_STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 50, 2000, 32, 3e-3, 0.05
"""Of what the head learns from photometry alone."""


class PhotometricHead(ParameterHead):
    """A parameter head that sees photometry beside the picture's features.

    The photometry's answer is learnt first, by itself and in seconds (`learn_photometry`); the joint training adds
    what the picture tells. Where a row's photometry is unknown, the answer is that of the picture alone.

    Parameters
    ----------
    features
        That the picture gives.
    measures
        That photometry gives; NaN in a row without fluxes. They come after the features.
    """

    measures_mean: Tensor
    measures_spread: Tensor

    def __init__(
        self, features: int, parameters: Sequence[str], measures: int, hidden: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__(features, parameters, hidden, dropout)
        self.register_buffer("measures_mean", torch.zeros(measures))
        self.register_buffer("measures_spread", torch.ones(measures))
        self.dropout = nn.Dropout(dropout)
        self.joint = nn.Sequential(
            nn.Linear(features + measures, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 2 * len(self.parameters_named)),
        )
        nn.init.zeros_(cast(nn.Linear, self.joint[0]).weight[:, :features])  # the picture has no say yet

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(N, features + measures) to standardised mean and ln sigma, each (N, P) float32."""
        picture, measured = self._parts(seen)
        known = measured.isfinite().all(dim=1, keepdim=True)
        alone, joint = super().forward(picture), self._joint(picture, measured)
        return torch.where(known, joint[0], alone[0]), torch.where(known, joint[1], alone[1])

    def loss(self, seen: Tensor, values: Tensor) -> Tensor:
        """Gaussian negative log-likelihood, see `ParameterHead.loss`, of the answer with and of that without fluxes."""
        return self.cost(self(seen), values) + self.cost(super().forward(self._parts(seen)[0]), values)

    def learn_photometry(self, measured: Tensor, values: Tensor, generator: torch.Generator) -> None:
        """Learn what photometry alone tells of the parameters.

        Parameters
        ----------
        measured
            (N, measures) of training stamps.
        values
            (N, P) of the same; NaN is missing. `standardise` must have seen them.
        """
        known = measured.isfinite().all(dim=1)
        measured, values = measured[known], values[known]
        if not len(measured):
            return
        self.measures_mean.copy_(measured.mean(dim=0))
        self.measures_spread.copy_(measured.std(dim=0, correction=0).clamp_min(1e-3))
        nothing = measured.new_zeros(len(measured), self.features)
        steps = min(MOST_STEPS, -(-EPOCHS * len(measured) // BATCH))
        optimiser = torch.optim.AdamW(self.joint.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(generator.initial_seed())  # dropout takes no generator
            for step in range(steps):
                rows = torch.randint(len(measured), (BATCH,), generator=generator)
                for group in optimiser.param_groups:
                    group["lr"] = LEARNING_RATE * rate_at(step, steps, steps // 20)
                optimiser.zero_grad()
                self.cost(self._joint(nothing[rows], measured[rows]), values[rows]).backward()
                nn.utils.clip_grad_norm_(self.joint.parameters(), 1.0)
                optimiser.step()

    def _parts(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return seen[:, : self.features], seen[:, self.features :]

    def _joint(self, picture: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(picture.device.type, enabled=False):  # a magnitude has more digits than bfloat16
            standard = ((measured - self.measures_mean) / self.measures_spread).clamp(-FARTHEST, FARTHEST)
            both = torch.cat([self.dropout(picture.float()), standard.nan_to_num()], dim=1)
            return self.split(self.joint(both))
