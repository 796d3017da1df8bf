"""SUNet's dual up-sampling: a pixel-shuffle branch and a bilinear branch, merged (Fan, Liu and Liu 2022)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class DualUpsample(nn.Module):
    """Twice or four times the resolution.

    With P_r the pixel shuffle, B_r bilinear enlargement, s a PReLU and W_i 1x1 convolutions:
    a = W2 P_r(s(W1 x)), b = W4 B_r(s(W3 x)), y = W5 [a; b]. SUNet halves the channels with twice the size and
    keeps them with four times; here `out` may be any number, for encoders with other channels than SUNet's. The shuffle
    keeps sharp detail, the bilinear branch keeps it free of checkerboards.
    """

    def __init__(self, channels: int, out: int, factor: int) -> None:
        super().__init__()
        if factor not in (2, 4):
            raise ValueError(f"factor is {factor}; SUNet's up-sampling is by 2 or 4")
        self.factor = factor
        self.shuffle_expand = nn.Conv2d(channels, out * factor**2, 1, bias=False)
        self.shuffle_activation = nn.PReLU()
        self.shuffle_project = nn.Conv2d(out, out, 1, bias=False)
        self.smooth_expand = nn.Conv2d(channels, channels, 1)
        self.smooth_activation = nn.PReLU()
        self.smooth_project = nn.Conv2d(channels, out, 1, bias=False)
        self.merge = nn.Conv2d(2 * out, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out, factor h, factor w)."""
        sharp = functional.pixel_shuffle(self.shuffle_activation(self.shuffle_expand(x)), self.factor)
        smooth = self.smooth_activation(self.smooth_expand(x))
        # what follows the activations is linear: the projections and the merge become one convolution a branch, and
        # that of the smooth branch commutes with its enlargement, so that it runs on the small map
        merge_sharp, merge_smooth = self.merge.weight.flatten(1).chunk(2, dim=1)
        sharp = functional.conv2d(sharp, _compose(merge_sharp, self.shuffle_project))
        smooth = functional.conv2d(smooth, _compose(merge_smooth, self.smooth_project))
        return sharp + functional.interpolate(smooth, scale_factor=self.factor, mode="bilinear", align_corners=False)


def _compose(after: Tensor, projection: nn.Conv2d) -> Tensor:
    """Weights of one 1x1 convolution that does `projection` and then `after`."""
    return (after @ projection.weight.flatten(1))[:, :, None, None]
