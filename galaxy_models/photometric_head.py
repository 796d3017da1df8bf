"""The head of parameters where fluxes are known: it answers from photometry and picture together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .ellipticity import ORIENTED, turned, turned_at_the_end
from .heads import ParameterHead, mean_and_log_sigma
from .schedule import rate_at
from .seen import Seen

FARTHEST = 5.0
"""Spreads from the mean at which a standardised number of photometry is cut off: what is farther is hardly a galaxy."""

EPOCHS, MOST_STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 50, 2000, 32, 3e-3, 0.05
"""Of what the head learns from photometry alone; above 1,280 looks the number of steps is what ends it."""


class PhotometricHead(ParameterHead):
    """A parameter head that reads photometry beside the picture's features.

    What photometry tells alone is learnt first, by itself and in seconds (`learn_photometry`); the joint training adds
    what the picture tells. Pictures without fluxes are answered from the picture alone, which is learnt beside it.

    Parameters
    ----------
    features
        That the picture gives.
    photometry
        Numbers that photometry gives.
    directions
        How many of these, the last ones, are pairs of e1 and e2. They are left out unless e1 and e2 are asked for.
    """

    photometry_mean: Tensor
    photometry_spread: Tensor

    def __init__(
        self,
        features: int,
        parameters: Sequence[str],
        photometry: int,
        directions: int = 0,
        hidden: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, parameters, hidden, dropout)
        self.features = features
        self.directions = directions if set(ORIENTED) <= set(parameters) else 0
        photometry -= directions - self.directions
        self.register_buffer("photometry_mean", torch.zeros(photometry))
        self.register_buffer("photometry_spread", torch.ones(photometry))
        self.dropout = nn.Dropout(dropout)
        self.joint = nn.Sequential(
            nn.Linear(features + photometry, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 2 * len(self.parameters_named)),
        )
        nn.init.zeros_(cast(nn.Linear, self.joint[0]).weight[:, :features])  # the picture has no say yet

    def answer(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """From photometry and picture together, or from the picture where fluxes are unknown."""
        if seen.photometry is None:
            return super().answer(seen)
        return self._joint(seen.pooled, self._read(seen.photometry))

    def loss(self, seen: Seen, values: Tensor) -> Tensor:
        """See `ParameterHead.loss`: the mean of that of the answer with fluxes and that of the answer without."""
        alone = super().loss(seen.of_pictures(), values)
        return alone if seen.photometry is None else (alone + super().loss(seen, values)) / 2

    def learn_photometry(self, photometry: Tensor, values: Tensor, generator: torch.Generator) -> None:
        """Learn what photometry alone tells of the parameters.

        Parameters
        ----------
        photometry
            (L, N, M), L looks at each of N training stamps, see `decentred_looks`.
        values
            (N, P) of the same stamps; NaN is missing. `standardise` must have seen them.
        generator
            On the CPU, as the head is; its seed also decides what is dropped out.
        """
        values, photometry = values.repeat(len(photometry), 1), self._read(photometry.flatten(0, 1))
        mean, spread = photometry.mean(dim=0), photometry.std(dim=0, correction=0)
        if self.directions:  # both components over all angles
            pairs = photometry[:, -self.directions :].unflatten(1, (-1, 2))
            mean[-self.directions :] = 0
            spread[-self.directions :] = pairs.square().mean(dim=(0, 2)).sqrt().repeat_interleave(2)
        self.photometry_mean.copy_(mean)
        self.photometry_spread.copy_(spread.clamp_min(1e-3))
        steps = min(MOST_STEPS, -(-EPOCHS * len(photometry) // BATCH))
        optimiser = torch.optim.AdamW(self.joint.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        no_picture = photometry.new_zeros(BATCH, self.features)
        before = self.training
        self.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())  # dropout takes no generator
            for step in range(steps):
                rows = torch.randint(len(photometry), (BATCH,), generator=generator)
                for group in optimiser.param_groups:
                    group["lr"] = LEARNING_RATE * rate_at(step, steps, steps // 20)
                optimiser.zero_grad()
                seen, taught = self._turned(photometry[rows], values[rows], generator)
                self.negative_log_likelihood(self._joint(no_picture, seen), taught).backward()
                nn.utils.clip_grad_norm_(self.joint.parameters(), 1.0)
                optimiser.step()
        optimiser.zero_grad()
        self.train(before)

    def _read(self, photometry: Tensor) -> Tensor:
        return photometry[:, : self.photometry_mean.numel()]

    def _turned(self, photometry: Tensor, values: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Both as of stamps that are turned by any angle, where that is of any matter."""
        if not self.directions:
            return photometry, values
        angle = 360 * torch.rand(len(values), generator=generator)
        turned_photometry = turned_at_the_end(photometry, self.directions, angle, south_first=True)
        return turned_photometry, turned(values, self.parameters_named, angle, south_first=True)

    def _joint(self, pooled: Tensor, photometry: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(pooled.device.type, enabled=False):  # a magnitude has more digits than bfloat16
            standard = ((photometry - self.photometry_mean) / self.photometry_spread).clamp(-FARTHEST, FARTHEST)
            return mean_and_log_sigma(self.joint(torch.cat([self.dropout(pooled.float()), standard], dim=1)))
