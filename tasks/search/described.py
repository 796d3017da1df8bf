"""Galaxies ranked by a vector of words or of a symbol, through the aligned embeddings that `infer` published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.errors import GalaxyError
from tasks.infer.publish import EMBEDDINGS
from tasks.infer.shards import column_name
from tasks.search.features import read_proof

MODEL = "galaxy-align"
"""Whose towers see pictures, words and symbols in one space."""

ALIGNED = column_name(MODEL, "embedding").removesuffix("embedding") + EMBEDDINGS
BLOCK = 16_384
"""Rows that are compared at once."""


@dataclass(frozen=True)
class AlignedEmbeddings:
    """What galaxy-align made of a catalogue's stamps.

    Attributes
    ----------
    vectors
        (N, D) float16, read-only memory map, of length 1; row i is row i of the catalogue, NaN where there is none.
    model_version
        Registered version, whose other towers make vectors to compare these with.
    """

    vectors: NDArray[np.float16]
    model_version: str

    @classmethod
    def open(cls, catalogue: Path) -> AlignedEmbeddings:
        """Open what `infer` published.

        Raises
        ------
        GalaxyError
            If the catalogue was made without galaxy-align; the message says what to run.
        """
        proof = read_proof(catalogue)
        if not has_aligned(catalogue) or MODEL not in proof.get("models", {}):
            raise GalaxyError(
                f"{catalogue} has no embeddings of {MODEL}, which words and symbols are compared with; run `galaxy run "
                f"--survey {proof.get('survey', 'NAME')} --stages align,infer` and choose the catalogue that it makes"
            )
        return cls(np.load(catalogue / ALIGNED, mmap_mode="r", allow_pickle=False), str(proof["models"][MODEL]))

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) likeness of each row to a vector (D,) of length 1, from -1 to 1; NaN where there is no embedding."""
        if vector.shape != (self.vectors.shape[1],):
            raise GalaxyError(
                f"{MODEL} version {self.model_version} gives vectors of {len(vector)} numbers, and the catalogue has "
                f"{self.vectors.shape[1]}; run `galaxy run --stages infer` again"
            )
        found = np.empty(len(self.vectors), np.float32)
        for start in range(0, len(found), BLOCK):
            block = slice(start, start + BLOCK)
            found[block] = self.vectors[block].astype(np.float32) @ vector
        return found


def has_aligned(catalogue: Path) -> bool:
    """Whether a published catalogue has embeddings that words can be compared with."""
    return (catalogue / ALIGNED).is_file()
