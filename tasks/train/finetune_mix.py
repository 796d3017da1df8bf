"""How much of a fine-tuning is kept: validation chooses on the way from the first weights to the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from galaxy_models.interpolation import between
from galaxy_models.multitask import MultiTaskNetwork


def keep_best_mix(
    network: MultiTaskNetwork,
    first: Mapping[str, Tensor],
    shares: Sequence[float],
    validate: Callable[[MultiTaskNetwork], Mapping[str, float]],
) -> float:
    """Leave the network with the weights that validation likes best.

    Parameters
    ----------
    network
        After its training.
    first
        Its weights from before, on any device.
    shares
        Of the way from the first weights to the last, each above 0 and at most 1; see `interpolation.between`.
    validate
        Gives a score for each task that counts, the higher the better, or none where nothing can be validated. All
        count alike, however much of the training each had; a score that is not finite counts as 0.

    Returns
    -------
    float
        The share that was chosen: of those with the best mean over the tasks the largest; without validation, the
        largest.
    """
    last = {name: value.clone() for name, value in network.state_dict().items()}

    def score(share: float) -> float:
        network.load_state_dict(between(first, last, share))
        scores = [value if math.isfinite(value) else 0.0 for value in validate(network).values()]
        return float(np.mean(scores)) if scores else 0.0

    chosen = max(sorted(shares, reverse=True), key=score) if len(shares) > 1 else shares[0]
    network.load_state_dict(between(first, last, chosen))
    return chosen
