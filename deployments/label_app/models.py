"""The registered model that made a catalogue's embeddings, for pictures that are not in it."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.label_app.catalogues import Catalogue
from galaxy_models.predictor import Predictor
from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.track.registry import load_registered


class Models:
    """Models by name and version, each loaded once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loaded: dict[tuple[str, str], Predictor] = {}
        self._lock = threading.Lock()

    def embed(self, catalogue: Catalogue, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, D) features of pictures (n, 3, H, W), standardised as the catalogue's.

        Raises
        ------
        GalaxyError
            If the registry does not have the model, or it makes other embeddings.
        """
        name, version = catalogue.features.model, str(catalogue.features.model_version)
        with self._lock:
            if (name, version) not in self._loaded:
                self._loaded[name, version] = load_registered(self._settings, name, version)
            said = self._loaded[name, version].predict_checked(torch.from_numpy(pictures), "rgb")
        vectors = np.asarray(said["embedding"], np.float32)
        if vectors.shape[1] != catalogue.features.features.shape[1]:
            raise GalaxyError(
                f"{name} version {version} gives embeddings of {vectors.shape[1]} numbers, and the catalogue "
                f"{catalogue.name} has {catalogue.features.features.shape[1]}; give examples by object id"
            )
        return np.asarray((vectors - catalogue.features.mean) / catalogue.features.spread, np.float32)
