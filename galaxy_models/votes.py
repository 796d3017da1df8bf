"""Volunteers' votes: the tree of Galaxy Zoo's questions, and losses that know how many votes there were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST_CONCENTRATION = 100.0

FEATURED = ("featured", "featured_or_disk", "features", "disk")
YES = ("yes",)
NO = ("no",)

Parents = Mapping[str, tuple[str, tuple[str, ...]] | None]
"""Question to the question and the answers after which it is asked; None if it is always asked."""

TREE: Parents = {
    "smooth_or_featured": None,
    "disk_edge_on": ("smooth_or_featured", FEATURED),
    "has_spiral_arms": ("disk_edge_on", NO),
    "bar": ("disk_edge_on", NO),
    "bulge_size": ("disk_edge_on", NO),
    "how_rounded": ("smooth_or_featured", ("smooth",)),
    "edge_on_bulge": ("disk_edge_on", YES),
    "bulge_shape": ("disk_edge_on", YES),
    "spiral_winding": ("has_spiral_arms", YES),
    "spiral_arm_count": ("has_spiral_arms", YES),
    "merging": None,
    "something_odd": None,
    "odd_feature": ("something_odd", YES),
}
"""The tree of Galaxy Zoo 2 and Galaxy Zoo DECaLS."""


def reach(fractions: Mapping[str, Mapping[str, Tensor]], tree: Parents = TREE) -> dict[str, Tensor]:
    """Share of the volunteers who came to each question: the product of the fractions on the way there.

    Parameters
    ----------
    fractions
        Question to answer to (N,) fraction of the question's own votes; NaN for unknown.
    tree
        Which question follows which.

    Returns
    -------
    dict
        Question to (N,) in 0..1. A question that is not in the tree, or whose parent is not in `fractions`, counts as
        asked of all who came to the last known question above it; a NaN above counts as 0.
    """
    known: dict[str, Tensor] = {}

    def of(question: str) -> Tensor | None:
        if question in known:
            return known[question]
        parent = tree.get(question)
        own = fractions.get(question)
        if parent is None:
            result = None if own is None else torch.ones_like(next(iter(own.values())))
        else:
            above, answers = parent
            result = of(above)
            passed = [fractions[above][answer] for answer in answers if answer in fractions.get(above, {})]
            if passed:
                share = torch.nan_to_num(torch.stack(passed).sum(dim=0)).clamp(0, 1)
                result = share if result is None else result * share
            elif result is None and own is not None:
                result = torch.ones_like(next(iter(own.values())))
        if result is not None:
            known[question] = result
        return result

    answered: dict[str, Tensor] = {}
    for question in fractions:
        share = of(question)
        assert share is not None  # every asked question has answers, hence a shape
        answered[question] = share
    return answered


def concentrations(output: Tensor) -> Tensor:
    """Dirichlet concentrations in 1..101 from a head's raw output, after Zoobot: 1 + 100 sigmoid(z)."""
    return 1 + LARGEST_CONCENTRATION * torch.sigmoid(output)


def fractions_with_spread(concentration: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted fraction and its sigma: p = a / sum(a), variance p (1 - p) / (sum(a) + 1). Both (..., A)."""
    total = concentration.sum(dim=-1, keepdim=True)
    fraction = concentration / total
    return fraction, (fraction * (1 - fraction) / (total + 1)).sqrt()


def dirichlet_multinomial_loss(output: Tensor, counts: Tensor) -> Tensor:
    """Negative log-likelihood of the votes on one question under a Dirichlet-multinomial.

    Parameters
    ----------
    output
        (N, A) raw output of the head.
    counts
        (N, A) votes for each answer; they need not be whole numbers. No votes at all cost nothing.

    Returns
    -------
    Tensor
        (N,).

    Notes
    -----
    -ln P(k | a) = -[ln G(n + 1) - sum ln G(k_i + 1) + ln G(a_0) - ln G(n + a_0) + sum(ln G(a_i + k_i) - ln G(a_i))]
    with n = sum k_i, a_0 = sum a_i and G the gamma function (Walmsley et al. 2022).
    """
    concentration = concentrations(output.float())
    counts = counts.float()
    votes, strength = counts.sum(dim=-1), concentration.sum(dim=-1)
    log_likelihood = (
        torch.lgamma(votes + 1)
        - torch.lgamma(counts + 1).sum(dim=-1)
        + torch.lgamma(strength)
        - torch.lgamma(votes + strength)
        + (torch.lgamma(concentration + counts) - torch.lgamma(concentration)).sum(dim=-1)
    )
    return -log_likelihood


def fraction_loss(output: Tensor, fractions: Tensor, votes: Tensor) -> Tensor:
    """The same for fractions whose counts are not published: as if `votes` volunteers had been asked.

    Parameters
    ----------
    output
        (N, A) raw output of the head.
    fractions
        (N, A) fraction of each answer; a row with a NaN costs nothing.
    votes
        (N,) supposed number of votes, such as 20 times the share who came to the question.

    Returns
    -------
    Tensor
        (N,).
    """
    known = torch.isfinite(fractions).all(dim=-1)
    counts = torch.nan_to_num(fractions) * (votes * known)[:, None]
    return dirichlet_multinomial_loss(output, counts)
