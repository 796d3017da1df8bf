"""Image encoders that GalaxAlign can stand on: our own LVM, or an open_clip model from local files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .lvm import GalaxyLVM, architecture, from_architecture

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ImageTowerError(ValueError):
    """An image tower that cannot be built from what is on this machine; the message says what is missing."""


class ImageTower(Protocol):
    """What GalaxAlign asks of an image encoder, besides being an `nn.Module`."""

    features: int

    def __call__(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) RGB in 0..1 to (N, features)."""

    def describe(self) -> dict[str, Any]:
        """What a model card keeps, JSON values; `build_image_tower` builds the untrained tower again."""


class LvmTower(nn.Module):
    """The LVM's encoder; every map of its pyramid, averaged over the image, is part of the answer.

    Fine structure such as arms and bars lives at strides 4 to 16, overall shape at 32.
    """

    def __init__(self, lvm: GalaxyLVM) -> None:
        super().__init__()
        self.lvm = lvm
        self.features = sum(lvm.channels)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in lvm.channels)
        # The decoder is not used here; without gradients the optimiser leaves it as it was pre-trained.
        self.lvm.requires_grad_(False)
        lvm.encoder.requires_grad_(True)
        lvm.encoder.mask_token.requires_grad_(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to (N, sum of the pyramid's channels)."""
        pooled = [features.mean(dim=(2, 3)) for features in self.lvm.encode(rgb)]
        return torch.cat([norm(part) for norm, part in zip(self.norms, pooled, strict=True)], dim=1)

    def describe(self) -> dict[str, Any]:
        """JSON values for the model card."""
        return {"kind": "lvm", **architecture(self.lvm)}


class OpenClipTower(nn.Module):
    """The visual part of an open_clip model; images are resized to its own size and standardised as CLIP has it."""

    mean: Tensor
    spread: Tensor

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        super().__init__()
        open_clip = _open_clip()
        self.configuration = json.loads(json.dumps(dict(configuration)))
        vision = {**self.configuration["vision_cfg"], "timm_model_pretrained": False}
        text = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
        whole = open_clip.CLIP(embed_dim=self.configuration["embed_dim"], vision_cfg=vision, text_cfg=text)
        self.visual = whole.visual
        self.features = int(self.configuration["embed_dim"])
        size = self.visual.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.register_buffer("mean", torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """(N, 3, h, w) to (N, embed_dim of the model)."""
        resized = functional.interpolate(rgb, self.size, mode="bilinear", antialias=True)
        return cast(Tensor, self.visual((resized - self.mean) / self.spread))

    def describe(self) -> dict[str, Any]:
        """JSON values for the model card."""
        return {"kind": "open_clip", "configuration": self.configuration}


def build_image_tower(description: Mapping[str, Any]) -> LvmTower | OpenClipTower:
    """The untrained tower that `describe` described."""
    if description.get("kind") == "lvm":
        return LvmTower(from_architecture(description))
    if description.get("kind") == "open_clip":
        return OpenClipTower(description["configuration"])
    raise ImageTowerError(f"image tower kind {description.get('kind')!r} is unknown; known are 'lvm' and 'open_clip'")


def load_open_clip_tower(name: str) -> OpenClipTower:
    """An open_clip tower with weights from this machine; nothing is ever downloaded.

    Parameters
    ----------
    name
        A folder with `open_clip_config.json` and its weights beside it, as open_clip publishes
        models; or `MODEL=FILE`: the name of an open_clip model and a file of its weights.

    Raises
    ------
    ImageTowerError
        If the name is not of these forms, or a file is missing or does not fit.
    """
    model, _, file = name.partition("=")
    if file:
        configuration = _open_clip().get_model_config(model)
        if configuration is None:
            raise ImageTowerError(f"image tower {name!r}: open_clip knows no model {model!r}")
        return _filled(OpenClipTower(configuration), Path(file).expanduser())
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ImageTowerError(
            f"image tower {name!r} is neither `lvm`, nor a folder with {OPEN_CLIP_CONFIG}, nor MODEL=FILE such as "
            "ViT-B-32=/models/vit_b_32.safetensors; weights are read from local files only and never downloaded"
        )
    try:
        content = json.loads((folder / OPEN_CLIP_CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ImageTowerError(f"image tower {name!r}: cannot read {folder / OPEN_CLIP_CONFIG}: {error}") from None
    weights = next((folder / file for file in OPEN_CLIP_WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise ImageTowerError(f"image tower {name!r}: {folder} has none of {', '.join(OPEN_CLIP_WEIGHTS)}")
    return _filled(OpenClipTower(content.get("model_cfg", content)), weights)


def _filled(tower: OpenClipTower, file: Path) -> OpenClipTower:
    """Put the visual weights of a whole open_clip checkpoint into the tower."""
    try:
        if file.suffix == ".safetensors":
            content = load_file(str(file))
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)  # tensors only: nothing in it can run
            content = content.get("state_dict", content)
    except (OSError, RuntimeError) as error:
        raise ImageTowerError(f"cannot read the open_clip weights {file}: {error}") from None
    plain = {key.removeprefix("module."): value for key, value in content.items()}
    visual = {key.removeprefix("visual."): value for key, value in plain.items() if key.startswith("visual.")}
    try:
        tower.visual.load_state_dict(visual)
    except RuntimeError as error:
        raise ImageTowerError(f"the weights {file} do not fit the open_clip model: {error}") from None
    return tower


def _open_clip() -> Any:
    import open_clip  # takes seconds to import, and only this part needs it

    return open_clip
