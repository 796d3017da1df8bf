"""The votes' likelihood against scipy's, and the tree that says how many volunteers came to a question."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet_multinomial

from galaxy_models.votes import (
    TREE,
    concentrations,
    dirichlet_multinomial_loss,
    fraction_loss,
    fractions_with_spread,
    reach,
)


def test_the_loss_is_the_dirichlet_multinomial_likelihood() -> None:
    output = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([[3, 0, 7], [1, 1, 1], [40, 2, 0], [0, 0, 1], [5, 5, 20]])
    alpha = concentrations(output).numpy().astype(np.float64)
    expected = [-dirichlet_multinomial.logpmf(k, a, k.sum()) for k, a in zip(counts.numpy(), alpha, strict=True)]
    assert dirichlet_multinomial_loss(output, counts).numpy() == pytest.approx(np.array(expected), rel=1e-3)


def test_a_question_nobody_answered_costs_nothing_and_teaches_nothing() -> None:
    output = torch.randn(2, 3, requires_grad=True)
    loss = dirichlet_multinomial_loss(output, torch.zeros(2, 3))
    loss.sum().backward()
    assert loss.detach().abs().max() < 1e-4
    assert output.grad is not None
    assert output.grad.abs().max() < 1e-4


def test_an_unknown_fraction_leaves_its_row_out() -> None:
    output = torch.randn(2, 2, requires_grad=True)
    fractions = torch.tensor([[float("nan"), 0.4], [0.6, 0.4]])
    fraction_loss(output, fractions, torch.full((2,), 20.0)).sum().backward()
    assert output.grad is not None
    assert torch.equal(output.grad[0], torch.zeros(2))
    assert output.grad[1].abs().max() > 0


def best_prediction(fractions: torch.Tensor, votes: float) -> tuple[float, float]:
    """First answer's fraction and sigma at the lowest mean loss, over a fine grid of outputs."""
    axis = torch.linspace(-6, 6, 121)
    grid = torch.cartesian_prod(axis, axis)
    losses = torch.stack(
        [fraction_loss(grid, row.expand(len(grid), 2), torch.full((len(grid),), votes)) for row in fractions]
    )
    fraction, sigma = fractions_with_spread(concentrations(grid[losses.mean(dim=0).argmin()]))
    return float(fraction[0]), float(sigma[0])


def test_the_best_prediction_is_the_voted_fraction() -> None:
    fraction, _ = best_prediction(torch.tensor([[0.7, 0.3]]), votes=50.0)
    assert fraction == pytest.approx(0.7, abs=0.01)


def test_scatter_that_few_votes_explain_is_not_blamed_on_the_galaxies() -> None:
    scattered = torch.tensor([[0.4, 0.6], [0.8, 0.2]])
    mean, few = best_prediction(scattered, votes=5.0)
    _, many = best_prediction(scattered, votes=200.0)
    assert mean == pytest.approx(0.6, abs=0.02)
    assert many == pytest.approx(0.2, rel=0.2), "with many votes the spread is that of the fractions themselves"
    assert few < 0.5 * many


def test_spread_is_that_of_a_dirichlet() -> None:
    concentration = torch.tensor([20.0, 6.0, 4.0])
    fraction, sigma = fractions_with_spread(concentration)
    sample = np.random.default_rng(0).dirichlet(concentration.numpy(), 20_000)
    assert fraction.numpy() == pytest.approx(sample.mean(axis=0), abs=0.005)
    assert sigma.numpy() == pytest.approx(sample.std(axis=0), rel=0.03)


def test_reach_is_the_product_of_the_fractions_on_the_way() -> None:
    def column(value: float) -> torch.Tensor:
        return torch.tensor([value])

    fractions = {
        "smooth_or_featured": {"smooth": column(0.3), "featured": column(0.6), "artifact": column(0.1)},
        "disk_edge_on": {"yes": column(0.25), "no": column(0.75)},
        "has_spiral_arms": {"yes": column(0.8), "no": column(0.2)},
        "spiral_winding": {"tight": column(1.0)},
        "how_rounded": {"round": column(1.0)},
        "how_blue": {"very": column(0.5)},
    }
    share = {question: float(value) for question, value in reach(fractions).items()}
    assert share["smooth_or_featured"] == 1
    assert share["disk_edge_on"] == pytest.approx(0.6)
    assert share["has_spiral_arms"] == pytest.approx(0.6 * 0.75)
    assert share["spiral_winding"] == pytest.approx(0.6 * 0.75 * 0.8)
    assert share["how_rounded"] == pytest.approx(0.3)
    assert share["how_blue"] == 1, "a question that the tree does not know is asked of all"


def test_reach_passes_over_a_question_that_is_not_in_the_table() -> None:
    fractions = {
        "smooth_or_featured": {"featured": torch.tensor([0.5, float("nan")])},
        "bar": {"yes": torch.tensor([0.1, 0.1])},
    }
    assert reach(fractions)["bar"].tolist() == [0.5, 0.0]


def test_every_parent_in_the_tree_is_a_question_of_the_tree() -> None:
    assert {parent[0] for parent in TREE.values() if parent} <= set(TREE)
