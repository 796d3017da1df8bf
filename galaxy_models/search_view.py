"""What a search looks at of each galaxy: its embedding, classical measures of its picture, and, of a network that tells
them, what volunteers would say.

Measures and answers say in words what takes many labels to learn from an embedding. Tried on searches with seeds from
100 on, answers helped a little everywhere and most for the rarest, and measures left a purer rest, those of rings more
than those of the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .lvm import GalaxyLVM
from .morphometry import MEASURED_COLUMNS, measure
from .outline import outlined
from .ring_structure import RING_COLUMNS, measure_rings
from .volunteer_answers import TOLD_COLUMNS, UNLIKELY, log_chances


@dataclass(frozen=True)
class View:
    """What is seen beside the embedding; in this order, after it.

    Attributes
    ----------
    measured, rings
        Whether the measures of the whole galaxy are, and those of its rings.
    told
        Whether the log-chances of the answers are.
    """

    measured: bool = False
    rings: bool = False
    told: bool = False

    @classmethod
    def among(cls, names: Collection[str]) -> View:
        """All that the columns `names` of a catalogue or of a model's answer have."""
        return cls(*(set(columns) <= set(names) for columns in (MEASURED_COLUMNS, RING_COLUMNS, TOLD_COLUMNS)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return (*self._measured, *(TOLD_COLUMNS if self.told else ()))

    def of_columns(self, columns: Mapping[str, NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
        """(N, D) from columns as `GalaxyLVM.predict_columns` has them; a row without an answer is NaN."""
        parts = [columns["embedding"]]
        if self._measured:
            parts.append(np.stack([columns[name] for name in self._measured], axis=1))
        if self.told:
            with np.errstate(divide="ignore"):  # a chance of nothing is UNLIKELY like any other that is too small
                chances = np.log(np.stack([columns[name] for name in TOLD_COLUMNS], axis=1))
            parts.append(np.maximum(chances, UNLIKELY))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def of_stamps(self, network: GalaxyLVM, rgb: Tensor) -> Tensor:
        """(N, D) of (N, 3, h, w) in 0..1: the same from the stamps themselves.

        Raises
        ------
        ValueError
            If answers are asked of a network that tells none.
        """
        embedding, chances = network.describe(rgb)
        parts = [embedding]
        if self._measured:
            galaxy = outlined(rgb)
            if self.measured:
                parts.append(measure(galaxy))
            if self.rings:
                parts.append(measure_rings(galaxy))
        if self.told:
            if chances is None:
                raise ValueError("this network has not been taught to tell answers")
            parts.append(log_chances(chances))
        return torch.cat(parts, dim=1)

    @property
    def _measured(self) -> tuple[str, ...]:
        return (*(MEASURED_COLUMNS if self.measured else ()), *(RING_COLUMNS if self.rings else ()))
