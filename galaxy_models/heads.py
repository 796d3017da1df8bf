"""The heads of the multi-task network: small, one per label table, on what the network has seen (`Seen`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .seen import Seen
from .votes import fraction_loss

LARGEST_LOG_SIGMA = 3.0
"""Limit of ln sigma of a standardised parameter, both ways: keeps the likelihood finite."""


def two_layers(features: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two fully connected layers, as Fu et al. (2024) have them after the encoder."""
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(features, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )


def mean_and_log_sigma(output: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 2 P) of a last layer as mean and ln sigma within its limits, each (N, P) float32."""
    mean, log_sigma = output.float().chunk(2, dim=1)
    return mean, LARGEST_LOG_SIGMA * torch.tanh(log_sigma / LARGEST_LOG_SIGMA)


class ClassificationHead(nn.Module):
    """Logits of one table's classes.

    Parameters
    ----------
    prior
        (last, classes): the logits of the untrained head are its last features times this, and training adds to them;
        None for a head that begins with nothing.
    """

    def __init__(
        self,
        features: int,
        classes: Sequence[str],
        hidden: int = 128,
        dropout: float = 0.2,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.layers = two_layers(features, hidden, len(self.classes), dropout)
        self.register_buffer("prior", prior, persistent=False)
        if prior is not None:
            last = cast(nn.Linear, self.layers[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, features) to (N, classes) logits."""
        logits = cast(Tensor, self.layers(pooled))
        prior = cast(Tensor | None, self.prior)
        if prior is None:
            return logits
        with torch.autocast(pooled.device.type, enabled=False):
            return logits.float() + pooled[:, -len(prior) :].float() @ prior

    def loss(
        self, pooled: Tensor, codes: Tensor, weights: Tensor | None = None, label_smoothing: float = 0.0
    ) -> Tensor:
        """Mean cross-entropy over the rows that have a class.

        Parameters
        ----------
        pooled
            (N, features).
        codes
            (N,) class of each row, -1 for none.
        weights
            (classes,) of the loss.

        Returns
        -------
        Tensor
            Scalar; 0 if no row has a class.
        """
        logits = self(pooled).float()
        known = codes >= 0
        if not bool(known.any()):
            return cast(Tensor, logits.sum() * 0)
        loss: Tensor = functional.cross_entropy(
            logits[known], codes[known], weight=weights, label_smoothing=label_smoothing
        )
        return loss


class VotesHead(nn.Module):
    """Raw Dirichlet outputs of one table's questions (see `votes.concentrations`)."""

    def __init__(
        self, features: int, questions: Sequence[tuple[str, Sequence[str]]], hidden: int = 128, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.questions = tuple((question, tuple(answers)) for question, answers in questions)
        self.layers = two_layers(features, hidden, sum(len(answers) for _, answers in self.questions), dropout)

    def forward(self, pooled: Tensor) -> dict[str, Tensor]:
        """(N, features) to question -> (N, answers)."""
        output = self.layers(pooled)
        parts = output.split([len(answers) for _, answers in self.questions], dim=1)
        return {question: part for (question, _), part in zip(self.questions, parts, strict=True)}

    def loss(self, pooled: Tensor, fractions: dict[str, Tensor], votes: dict[str, Tensor]) -> Tensor:
        """Dirichlet-multinomial loss, mean over the galaxies and questions that have votes.

        Parameters
        ----------
        pooled
            (N, features).
        fractions
            Question to (N, answers); a NaN leaves the row's question out.
        votes
            Question to (N,) supposed number of votes.

        Returns
        -------
        Tensor
            Scalar; 0 if nothing is known.
        """
        outputs = self(pooled)
        total, count = pooled.new_zeros((), dtype=torch.float32), 0
        for question, _ in self.questions:
            output, given = outputs[question], fractions[question]
            total = total + fraction_loss(output, given, votes[question]).sum()
            count += int((torch.isfinite(given).all(dim=1) & (votes[question] > 0)).sum())
        return total / max(count, 1)


class ParameterHead(nn.Module):
    """Mean and log-sigma of each parameter, standardised with the mean and spread of the training rows."""

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int, parameters: Sequence[str], hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.parameters_named = tuple(parameters)
        count = len(self.parameters_named)
        self.layers = two_layers(features, hidden, 2 * count, dropout)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))

    def standardise(self, values: Tensor) -> None:
        """Set mean and spread from (N, P) training values; NaN is missing, a constant parameter keeps spread one."""
        known = torch.isfinite(values)
        count = known.sum(dim=0).clamp_min(1)
        filled = torch.where(known, values, torch.zeros_like(values)).double()
        mean = filled.sum(dim=0) / count
        variance = (torch.where(known, filled - mean, torch.zeros_like(filled)) ** 2).sum(dim=0) / count
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance)))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(N, features) to standardised mean and ln sigma, each (N, P) float32."""
        return mean_and_log_sigma(self.layers(pooled))

    def answer(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Standardised mean and ln sigma of what was seen, each (N, P) float32."""
        return cast(tuple[Tensor, Tensor], self(seen.pooled))

    def predict(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Value and sigma in the parameters' own units, each (N, P)."""
        mean, log_sigma = self.answer(seen)
        return mean * self.spread + self.mean, log_sigma.exp() * self.spread

    def loss(self, seen: Seen, values: Tensor) -> Tensor:
        """Gaussian negative log-likelihood (less its constant), mean over the known (N, P) values; 0 if none is."""
        return self.negative_log_likelihood(self.answer(seen), values)

    def negative_log_likelihood(self, answer: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
        """The loss of standardised means and ln sigmas."""
        mean, log_sigma = answer
        known = torch.isfinite(values)
        target = (torch.where(known, values, self.mean) - self.mean) / self.spread
        pull = (target - mean) * torch.exp(-log_sigma)
        likelihood = (0.5 * pull**2 + log_sigma) * known
        mean_likelihood: Tensor = likelihood.sum() / known.sum().clamp_min(1)
        return mean_likelihood
