"""Weights between two sets are those of the ends at the ends, and their mean in the middle."""

from __future__ import annotations

import torch

from galaxy_models.interpolation import between

FIRST = {"weight": torch.tensor([0.1, -3.0]), "count": torch.tensor(2)}
LAST = {"weight": torch.tensor([0.7, 5.0]), "count": torch.tensor(9)}


def test_the_ends_are_exact_and_the_middle_is_the_mean() -> None:
    assert torch.equal(between(FIRST, LAST, 0.0)["weight"], FIRST["weight"])
    assert torch.equal(between(FIRST, LAST, 1.0)["weight"], LAST["weight"])
    torch.testing.assert_close(between(FIRST, LAST, 0.5)["weight"], torch.tensor([0.4, 1.0]))


def test_counts_are_the_last_and_nothing_is_shared_with_what_was_given() -> None:
    mixed = between(FIRST, LAST, 0.25)
    assert mixed["count"] == 9
    mixed["weight"].zero_()
    mixed["count"].zero_()
    assert LAST["count"] == 9 and LAST["weight"].all() and FIRST["weight"].all()
