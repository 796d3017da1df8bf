"""A plain U-Net (Ronneberger et al. 2015), about as large as `nano`: what our network is held against."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlainUNet(nn.Module):
    """Two convolutions a level, pooling down, transposed convolutions up, skips joined; the input is added at the end.

    Without the sum at the end it would have to learn the identity first; untrained, it gives its input back, as our
    network does. Values are standardised inside, by `mean` and `spread` (3,).
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor, width: int = 26, levels: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("spread", spread.view(1, 3, 1, 1))
        self.down = nn.ModuleList(_pair(before, after) for before, after in zip([3, *widths], widths, strict=False))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(below, above, 2, stride=2) for below, above in pairs)
        self.up = nn.ModuleList(_pair(2 * above, above) for _, above in pairs)
        self.apply(_initialise)
        self.last = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def restore(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) to the same, h and w multiples of 8."""
        features = (images - self.mean) / self.spread
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2) if level else features)
            skips.append(features)
        for rise, block, skip in zip(self.rise, self.up, skips[-2::-1], strict=True):
            features = block(torch.cat([rise(features), skip], dim=1))
        return images + cast(Tensor, self.last(features)) * self.spread


def _initialise(module: nn.Module) -> None:
    """As the paper has it, after He et al. (2015): PyTorch's own weights let the signal fade from layer to layer."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(cast(Tensor, module.bias))


def _pair(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
    )
