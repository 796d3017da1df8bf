"""Weights on the straight line between two sets of them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def between(first: Mapping[str, Tensor], last: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights at `share` of the way from the `first` of a training to its `last`.

    Wortsman et al. (2022), "Robust fine-tuning of zero-shot models": where a network could answer before it was
    fine-tuned, a point on the way can answer better than both ends. Buffers are mixed as weights are: running means and
    variances of batch norms are then not quite those of the mixed network.

    Parameters
    ----------
    first, last
        State dictionaries of one network, on any devices.
    share
        0 for the first, 1 for the last.

    Returns
    -------
    dict
        New tensors, on the devices of `last`; those of integers are the last.
    """
    return {
        name: first[name].to(value.device).lerp(value, share) if value.is_floating_point() else value.clone()
        for name, value in last.items()
    }
