"""The registered models that made a catalogue's embeddings, for what is not in it: pictures, words, symbols."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from deployments.label_app.catalogues import Catalogue
from galaxy_models.predictor import Predictor
from galaxy_models.prompts import sentences
from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.search.described import MODEL
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
            If the registry does not have the model, or it does not say all that the catalogue has.
        """
        features = catalogue.features
        name, version = features.model, str(features.model_version)
        with self._lock:
            said = self._model(name, version).predict_checked(torch.from_numpy(pictures), "rgb")
        lacking = [column for column in features.view.columns if column not in said]
        if lacking:
            raise GalaxyError(
                f"{name} version {version} does not say `{lacking[0]}`, which the catalogue {catalogue.name} has; "
                "give examples by object id"
            )
        return np.asarray((features.view.of_columns(said) - features.mean) / features.spread, np.float32)

    def describe(self, catalogue: Catalogue, words: str, symbol: str) -> NDArray[np.float32]:
        """(D,) of length 1: where galaxy-align puts words (the mean over its sentences), a symbol, or what is between.

        Raises
        ------
        GalaxyError
            If the catalogue has no embeddings of galaxy-align, the registry not the model, or the model not the symbol.
        """
        version = catalogue.aligned.model_version
        with self._lock, torch.inference_mode():
            network: Any = self._model(MODEL, version).network
            said = [network.encode_texts(sentences(words)).mean(dim=0, keepdim=True)] if words else []
            try:
                said += [network.encode_symbols([symbol])] if symbol else []
            except ValueError as error:  # of the version's own code
                raise GalaxyError(f"{MODEL} version {version}: {error}") from error
            middle = normalize(torch.cat([normalize(vector.float()) for vector in said]).mean(dim=0), dim=0)
        return np.asarray(middle.cpu().numpy(), np.float32)

    def _model(self, name: str, version: str) -> Predictor:
        if (name, version) not in self._loaded:
            self._loaded[name, version] = load_registered(self._settings, name, version)
        return self._loaded[name, version]
