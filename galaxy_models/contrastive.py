"""The loss that draws two kinds of description of the same class together."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE_LIMITS = (1.0, 100.0)
"""Smallest and largest inverse temperature; the upper limit is CLIP's."""


class LogitScale(nn.Module):
    """A learned inverse temperature, kept as its logarithm and clamped; starts at CLIP's 1 / 0.07."""

    def __init__(self, start: float = 1 / 0.07) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self) -> Tensor:
        """The inverse temperature, a scalar; beyond its limits the gradient is zero."""
        low, high = SCALE_LIMITS
        return self.logarithm.clamp(math.log(low), math.log(high)).exp()


def multi_positive_loss(
    first: Tensor, second: Tensor, first_classes: Tensor, second_classes: Tensor, scale: Tensor | float
) -> Tensor:
    """Symmetric contrastive loss in which every pair of one class is a match.

    Parameters
    ----------
    first, second
        (N, D) and (M, D), unit vectors; N and M may differ.
    first_classes, second_classes
        (N,) and (M,) int64.
    scale
        Inverse temperature.

    Returns
    -------
    Tensor
        Scalar: mean of both directions. A row without a match takes no part; without any match
        at all the loss is zero.

    Notes
    -----
    With s the scale, the direction first to second is the mean over i of
    -sum_j q_ij log softmax_j(s u_i . v_j), q_ij = 1[c_i = c_j] / n_i and n_i the number of
    matches of i. If all classes differ, this is the loss of CLIP (Radford et al. 2021); the form with
    several positives is that of UniCL (Yang et al. 2022).
    """
    logits = scale * first @ second.T
    match = first_classes[:, None] == second_classes[None, :]
    return (matching_loss(logits, match) + matching_loss(logits.T, match.T)) / 2


def matching_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Cross-entropy of each row's matches, which share its target equally; the mean of the rows that have one.

    Parameters
    ----------
    logits
        (N, M), finite.
    match
        (N, M) bool.
    """
    count = match.sum(dim=1)
    target = match.to(logits.dtype) / count.clamp_min(1)[:, None]
    losses = -(target * functional.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return losses.sum() / (count > 0).sum().clamp_min(1)
