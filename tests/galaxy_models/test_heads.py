"""Heads ignore what is not labelled, and learn what is."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.heads import ClassificationHead, ParameterHead, VotesHead
from galaxy_models.seen import Seen

NAN = float("nan")


@pytest.fixture
def embedding() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def gradient_by_row(loss: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(loss, embedding)
    return gradient.abs().sum(dim=1)


def test_rows_without_a_class_do_not_teach(embedding: torch.Tensor) -> None:
    head = ClassificationHead(8, ("spiral", "smooth"), dropout=0.0)
    embedding.requires_grad_()
    rows = gradient_by_row(head.loss(embedding, torch.tensor([0, -1, 1, -1, 0, -1])), embedding)
    assert (rows > 0).tolist() == [True, False, True, False, True, False]


def test_a_batch_without_any_label_has_a_loss_of_nought_that_can_be_differentiated(embedding: torch.Tensor) -> None:
    embedding.requires_grad_()
    votes = VotesHead(8, [("bar", ("yes", "no"))])
    parameters = ParameterHead(8, ("radius",))
    losses = [
        ClassificationHead(8, ("a", "b")).loss(embedding, torch.full((6,), -1)),
        votes.loss(embedding, {"bar": torch.full((6, 2), NAN)}, {"bar": torch.full((6,), 20.0)}),
        parameters.loss(Seen(embedding), torch.full((6, 1), NAN)),
    ]
    assert [float(loss.detach()) for loss in losses] == [0, 0, 0]
    assert gradient_by_row(sum(losses), embedding).max() == 0


def test_votes_are_split_by_question_and_averaged_over_what_was_answered(embedding: torch.Tensor) -> None:
    head = VotesHead(8, [("bar", ("yes", "no")), ("arms", ("one", "two", "many"))], dropout=0.0)
    assert {name: tuple(part.shape) for name, part in head(embedding).items()} == {"bar": (6, 2), "arms": (6, 3)}
    votes = {"bar": torch.full((6,), 20.0), "arms": torch.full((6,), 20.0)}
    bar = torch.tensor([[0.9, 0.1]]).repeat(6, 1)
    nothing = torch.full((6, 3), NAN)
    alone = head.loss(embedding, {"bar": bar, "arms": nothing}, votes)
    halved = head.loss(embedding, {"bar": torch.cat([bar[:3], bar[:3] * NAN]), "arms": nothing}, votes)
    first = head.loss(embedding[:3], {"bar": bar[:3], "arms": nothing[:3]}, {name: v[:3] for name, v in votes.items()})
    assert float(halved.detach()) == pytest.approx(float(first.detach()), rel=1e-5)
    assert float(alone.detach()) > 0


def test_parameters_are_standardised_by_what_is_known() -> None:
    head = ParameterHead(8, ("radius", "angle", "constant"))
    values = torch.tensor([[1.0, NAN, 7.0], [3.0, 100.0, 7.0], [NAN, 300.0, 7.0]])
    head.standardise(values)
    assert head.mean.tolist() == [2.0, 200.0, 7.0]
    assert head.spread.tolist() == [1.0, 100.0, 1.0]


def test_parameter_loss_ignores_missing_values_alone(embedding: torch.Tensor) -> None:
    head = ParameterHead(8, ("radius", "angle"), dropout=0.0)
    values = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    values[0, 1] = NAN
    values[1] = NAN
    embedding.requires_grad_()
    rows = gradient_by_row(head.loss(Seen(embedding), values), embedding)
    assert torch.isfinite(rows).all()
    assert rows[0] > 0
    assert rows[1] == 0


def test_the_gaussian_likelihood_is_lowest_at_the_true_mean_and_scatter() -> None:
    head = ParameterHead(1, ("radius",))
    values = 5 + 2 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(2))
    head.standardise(values)
    nothing = torch.zeros(4000, 1)

    def loss(mean: float, log_sigma: float) -> float:
        head.forward = lambda _: (nothing + mean, nothing + log_sigma)  # type: ignore[method-assign]
        return float(head.loss(Seen(nothing), values))

    best = loss(0.0, 0.0)
    assert best < min(loss(0.2, 0.0), loss(-0.2, 0.0), loss(0.0, 0.2), loss(0.0, -0.2))


def test_predictions_come_in_the_parameters_own_units(embedding: torch.Tensor) -> None:
    head = ParameterHead(8, ("magnitude",)).eval()
    head.standardise(torch.tensor([[18.0], [20.0]]))
    standard_mean, log_sigma = head(embedding)
    value, sigma = head.predict(Seen(embedding))
    assert torch.allclose(value, 19 + standard_mean)
    assert torch.allclose(sigma, log_sigma.exp())
