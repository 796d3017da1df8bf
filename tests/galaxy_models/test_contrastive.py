"""The contrastive loss against numbers worked out by hand, and against CLIP's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from galaxy_models.contrastive import LogitScale, multi_positive_loss


def _unit(count: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_equals_clip_when_all_classes_differ() -> None:
    first, second, classes = _unit(5, 0), _unit(5, 1), torch.tensor([4, 2, 0, 1, 3])
    logits = 9.0 * first @ second.T
    diagonal = torch.arange(5)
    clip = (functional.cross_entropy(logits, diagonal) + functional.cross_entropy(logits.T, diagonal)) / 2
    assert float(multi_positive_loss(first, second, classes, classes, 9.0)) == pytest.approx(float(clip), rel=1e-6)


def test_two_matches_share_the_target() -> None:
    # Cosines 1, 0 and -1 of one image to two texts of its class and one of another; scale 2.
    image = torch.tensor([[1.0, 0.0]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    normaliser = math.log(math.exp(2) + 1 + math.exp(-2))
    image_to_text = normaliser - (2 + 0) / 2
    text_to_image = 0.0  # each of the two texts has one image to choose from; the third has no match
    expected = (image_to_text + text_to_image) / 2
    loss = multi_positive_loss(image, texts, torch.tensor([7]), torch.tensor([7, 7, 1]), 2.0)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_identical_vectors_of_one_class_cost_the_logarithm_of_their_number() -> None:
    vectors, classes = torch.tensor([[1.0, 0.0]]).repeat(4, 1), torch.zeros(4, dtype=torch.int64)
    assert float(multi_positive_loss(vectors, vectors, classes, classes, 5.0)) == pytest.approx(math.log(4))


def test_a_row_without_a_match_weighs_nothing() -> None:
    first, second = _unit(3, 0), _unit(3, 1)
    classes = torch.tensor([0, 1, 2])
    # A further image of a class that no text has: texts see it as one more wrong choice, its own row is left out.
    stranger = _unit(1, 2)
    loss = multi_positive_loss(torch.cat([first, stranger]), second, torch.tensor([0, 1, 2, 9]), classes, 3.0)
    own = functional.cross_entropy(3.0 * first @ second.T, classes)
    other = functional.cross_entropy(3.0 * second @ torch.cat([first, stranger]).T, classes)
    assert float(loss) == pytest.approx(float((own + other) / 2), rel=1e-6)


def test_nothing_in_common_gives_zero_and_no_gradient() -> None:
    first = _unit(2, 0).requires_grad_()
    loss = multi_positive_loss(first, _unit(3, 1), torch.tensor([0, 1]), torch.tensor([2, 3, 4]), 3.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert first.grad is not None and float(first.grad.abs().max()) == 0


def test_the_scale_stays_within_its_limits() -> None:
    scale = LogitScale()
    assert float(scale().detach()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        scale.logarithm.fill_(50.0)
    assert float(scale().detach()) == pytest.approx(100.0, rel=1e-5)
    with torch.no_grad():
        scale.logarithm.fill_(-50.0)
    assert float(scale().detach()) == pytest.approx(1.0)
