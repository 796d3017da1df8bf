"""A registered galaxy model, written beside its weights when it is logged; MLflow runs this file to load it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

PACKAGE = "galaxy_models"  # at logging this becomes the name of the copy beside this file, which ends in its hash


class GalaxyModel(PythonModel):
    """Images in, a table out; `predictor` gives the same answers as arrays."""

    def load_context(self, context: Any) -> None:
        """Read card and weights, on the GPU if there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(context.artifacts["model"])
        self.predictor = import_module(f"{PACKAGE}.predictor").load_predictor(folder, device)

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row for each of the (N, 3, H, W) float32 images.

        `params` are `units` (`nanomaggy` or `rgb`) and `pixel_scale` ("/px, 0 for unknown where the card allows it);
        both must be given. Anything that the card does not allow is refused with the legal values named.
        """
        given = params or {}
        units, scale = given.get("units", ""), given.get("pixel_scale", -1.0)
        images = np.asarray(model_input)
        if images.ndim == 4 and len(images) == 0:  # a network may not take no image; one blank gives the columns
            blank = np.zeros((1, *images.shape[1:]), dtype=images.dtype)
            columns = {name: values[:0] for name, values in self.predictor.predict(blank, units, scale).items()}
        else:
            columns = self.predictor.predict(images, units, scale)
        return pd.DataFrame({name: _column(values) for name, values in columns.items()})


def _column(values: Any) -> Any:
    """An array of one number per row as it is; anything wider as one list per row."""
    return values if values.ndim == 1 and values.dtype != object else [np.asarray(value).tolist() for value in values]


set_model(GalaxyModel())
