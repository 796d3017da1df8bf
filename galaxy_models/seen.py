"""What the multi-task network sees of a batch of stamps before its heads answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """Of N stamps.

    Attributes
    ----------
    pooled
        (N, D) features of the pictures, which all heads read.
    photometry
        (N, M) of the fluxes, see `aperture_photometry`, which heads of parameters read; None where they are unknown.
    """

    pooled: Tensor
    photometry: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Seen:
        """Of some of the stamps."""
        return Seen(self.pooled[rows], None if self.photometry is None else self.photometry[rows])

    def of_pictures(self) -> Seen:
        """The same without fluxes."""
        return Seen(self.pooled)

    @classmethod
    def together(cls, parts: Sequence[Seen]) -> Seen:
        """Of all parts' stamps, one part after the other; all know fluxes or none does."""
        known = [part.photometry for part in parts if part.photometry is not None]
        if known and len(known) < len(parts):
            raise ValueError(f"fluxes are known in {len(known)} of {len(parts)} parts; put those together alone")
        return cls(torch.cat([part.pooled for part in parts]), torch.cat(known) if known else None)
