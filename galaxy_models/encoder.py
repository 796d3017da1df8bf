"""What an encoder is to the large vision model: a picture in, a pyramid of four token maps out."""

from __future__ import annotations

from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
"""Pixels along a side of a token of each map."""


class Encoder(nn.Module):
    """Base of all encoders. The decoder, the heads, the detector and the image tower know nothing else of them.

    Attributes
    ----------
    channels
        Channels of the four maps.
    mask_token
        (C,) learnt, in the place of what is hidden; each encoder says at which depth.
    """

    channels: tuple[int, ...]
    mask_token: nn.Parameter

    def initialise(self) -> None:
        """Draw the weights that PyTorch's or timm's own constructors have not left as they should be."""

    def stage_numbers(self) -> dict[str, int]:
        """Of each parameter by its name: 1 to 4 for the stages in their order, 0 for what comes before the first.

        What leads to a stage belongs to it. The mask token counts as what comes before.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, hidden: Tensor | None) -> list[Tensor]:
        """The pyramid.

        Parameters
        ----------
        image
            (N, 3, h, w) standardised RGB, sides multiples of 32; hidden pixels are 0 in it.
        hidden
            (N, 1, h, w) bool, pixels that are hidden, or None.

        Returns
        -------
        list of Tensor
            (N, h / s, w / s, C) for the strides s = 4, 8, 16, 32.
        """
        raise NotImplementedError


def initialise_linear(module: nn.Module) -> None:
    """Truncated normal of 0.02 for linear layers, as Swin; convolutions keep PyTorch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
