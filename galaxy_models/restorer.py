"""Asks a loaded model to restore images, after checking that it has learnt to restore such."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from .degradation import SURVEY_PIXEL_SCALE, known_degradation
from .inputs import InputError
from .multitask import FLUX, MultiTaskNetwork
from .predictor import Predictor


def restore(
    predictor: Predictor,
    images: np.ndarray,
    units: str,
    pixel_scale: float,
    seeing: ArrayLike | None,
    noise: ArrayLike | None,
) -> np.ndarray:
    """See `Predictor.restore`."""
    network, inputs, size = predictor.network, predictor.card.inputs, predictor.batch_size
    if not isinstance(network, MultiTaskNetwork):
        raise InputError(f"{predictor.card.name} restores nothing; galaxy-morphology does")
    wanted = "nanomaggy" if network.restores == FLUX else "rgb"
    if units != wanted:
        raise InputError(f"units are {units!r}; this model has learnt to restore images of units={wanted!r}")
    array = torch.from_numpy(inputs.check(images, units, pixel_scale))
    if network.restores == FLUX:
        told = [_of_each(*each, len(array), inputs.bands) for each in (("seeing", seeing), ("noise", noise))]
        done = known_degradation(told[0], told[1], inputs.bands, pixel_scale or SURVEY_PIXEL_SCALE)
    device = next(network.parameters()).device
    parts = []
    for start in range(0, max(len(array), 1), size):
        rows = slice(start, start + size)
        batch = array[rows].to(device)
        if network.restores == FLUX:
            parts.append(network.restore_flux(batch, done.part(rows), inputs.crop))
        else:
            parts.append(network.restore(inputs.to_network(batch, units)).clamp(0, 1))
    return torch.cat(parts).float().cpu().numpy()


def _of_each(name: str, values: ArrayLike | None, images: int, bands: Sequence[str]) -> torch.Tensor:
    """(images, C) from (C,) or (images, C); raises InputError if there are none, or one is not above zero."""
    if values is None:
        raise InputError(f"{name} is not given; fluxes are restored by it: one number for each of {', '.join(bands)}")
    table = np.asarray(values, np.float32)
    if table.shape not in ((len(bands),), (images, len(bands))):
        raise InputError(f"{name} has shape {table.shape}; legal are ({len(bands)},) and ({images}, {len(bands)})")
    wrong = table[~(np.isfinite(table) & (table > 0))]
    if len(wrong):
        raise InputError(f"{name} is {wrong[0]:g} somewhere; it must be above zero in every band")
    return torch.from_numpy(np.broadcast_to(table, (images, len(bands))).copy())
