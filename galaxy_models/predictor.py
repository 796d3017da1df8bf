"""One door to every model: a folder with card and weights in, named columns out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors.torch import load_file, save_file
from torch import nn

from .card import WEIGHTS_FILE, CardError, ModelCard

MODULES = {
    "lvm": ".lvm",
    "morphology": ".multitask",
    "align": ".align",
    "lens": ".detection",
    "search": ".search_model",
}
"""Architecture kind to the module that has `build(card) -> Network`; imported when it is used."""


class Network(Protocol):
    """What `predictor` asks of a network of any kind: an `nn.Module` with one more method."""

    def predict_columns(
        self, rgb: torch.Tensor, border: int = 0, flux: torch.Tensor | None = None
    ) -> dict[str, np.ndarray]:
        """(N, 3, h, w) RGB in 0..1, as `InputSpec.to_network` makes it, to columns of N rows each.

        `border` says how many pixels the crop took off each side, for who answers with places in the image; `flux` are
        the (N, C, crop, crop) nanomaggies of the same squares, if that is what was given, for who measures on them.
        """


class Predictor:
    """A model ready for use: `predict` checks its input against the card and returns columns."""

    def __init__(self, card: ModelCard, network: nn.Module, batch_size: int = 128) -> None:
        self.card = card
        self.network = network.eval()
        self.batch_size = batch_size

    def hasten(self, *, bfloat16: bool, compiled: bool) -> None:
        """Answer faster, for a pass over many stamps, on a device where that pays; elsewhere nothing changes.

        Parameters
        ----------
        bfloat16
            Compute the encoder of a large vision model in bfloat16, on a GPU. Answers change in the third digit.
        compiled
            Compile the network, which takes minutes.
        """
        from .compilation import compile_parts, compiling_pays, worth_compiling
        from .lvm import GalaxyLVM
        from .precision import computes_in_bfloat16

        device = str(next(self.network.parameters()).device)
        for part in self.network.modules():
            if isinstance(part, GalaxyLVM):
                part.encodes_in_bfloat16 = bfloat16 and device.startswith("cuda") and computes_in_bfloat16(device)
        if compiled and compiling_pays(device):
            compile_parts(worth_compiling(self.network))

    @torch.inference_mode()
    def predict(self, images: np.ndarray, units: str, pixel_scale: float) -> dict[str, np.ndarray]:
        """Answer for each image.

        Parameters
        ----------
        images
            (N, C, H, W) float32; see `InputSpec.check`, which refuses what the card does not allow.

        Returns
        -------
        dict
            Column name to an array of N rows.
        """
        array = self.card.inputs.check(images, units, pixel_scale)
        return self.predict_checked(torch.from_numpy(array), units)

    @torch.inference_mode()
    def predict_checked(self, images: torch.Tensor, units: str) -> dict[str, np.ndarray]:
        """The same for stamps whose geometry is known to fit, as the stamp store has them (uint8 or float16 too)."""
        device = next(self.network.parameters()).device
        inputs = self.card.inputs
        border = (images.shape[-1] - inputs.crop) // 2
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, max(len(images), 1), self.batch_size):
            batch = images[start : start + self.batch_size].to(device)
            rgb, flux = inputs.to_network(batch, units), inputs.fluxes(batch, units)
            parts.append(self.network.predict_columns(rgb, border, flux))  # type: ignore[operator]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()
    def restore(
        self,
        images: np.ndarray,
        units: str,
        pixel_scale: float,
        seeing: ArrayLike | None = None,
        noise: ArrayLike | None = None,
    ) -> np.ndarray:
        """Sharper and less noisy images, by a model that was taught to restore such.

        Parameters
        ----------
        images
            (N, C, H, W) float32, as for `predict`.
        seeing, noise
            Of fluxes: FWHM of the PSF, arcsec, and noise of a pixel, nanomaggies; of each band, (C,), or also of each
            image, (N, C).

        Returns
        -------
        ndarray
            (N, 3, h, w) float32. Fluxes: nanomaggies of the central `crop` pixels, under the seeing of the survey's
            sharpest images (`degradation.SEEING`). Pictures: RGB in 0..1, binned as the model sees them.

        Raises
        ------
        InputError
            If the model restores nothing, or not in these units, or an image or its seeing or noise is not legal.
        """
        from .restorer import restore

        return restore(self, images, units, pixel_scale, seeing, noise)


def save_model(folder: Path, card: ModelCard, network: nn.Module) -> None:
    """Write `card.json` and `weights.safetensors` into `folder`."""
    card.save(folder)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, str(folder / WEIGHTS_FILE))


def load_network(folder: Path) -> tuple[ModelCard, nn.Module]:
    """Rebuild the network of `folder` from its card and fill in its weights.

    Raises
    ------
    CardError
        If the card's kind is unknown, or card and weights do not belong together.
    """
    card = ModelCard.load(folder)
    kind = card.architecture.get("kind")
    if kind not in MODULES:
        raise CardError(f"{folder}: architecture kind {kind!r} is unknown; known are {sorted(MODULES)}")
    network: nn.Module = import_module(MODULES[kind], __package__).build(card)
    try:
        network.load_state_dict(load_file(str(folder / WEIGHTS_FILE)))
    except (OSError, RuntimeError) as error:
        raise CardError(f"{folder}: the weights do not fit the card: {error}") from error
    return card, network


def load_predictor(folder: Path, device: str = "cpu") -> Predictor:
    """The model of `folder`, on `device`, ready to predict."""
    card, network = load_network(folder)
    return Predictor(card, network.to(device))
