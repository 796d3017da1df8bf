"""Swin Transformer stages that take a map of any size, built on timm's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from timm.models import swin_transformer as timm_swin
from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]


class WindowAttention(timm_swin.WindowAttention):
    """timm's window attention, for any window up to the one that it was built for.

    A smaller window takes its relative-position biases from the middle of the table, so that a
    bias belongs to an offset in pixels whatever the size of the map.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None, window: Size | None = None) -> Tensor:
        """Attention within each window.

        Parameters
        ----------
        x
            (B * windows, h * w, C), the tokens of `window` = (h, w).
        mask
            (windows, h * w, h * w): 0 where a token may look, a large negative number elsewhere.
        """
        count, area, channels = x.shape
        query, key, value = self.qkv(x).reshape(count, area, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mix = mix_fused if x.is_cuda else mix_plainly
        mixed = mix(query, key, value, self._bias(window or self.window_size), mask, self.scale)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).reshape(count, area, channels)))

    def _bias(self, window: Size) -> Tensor:
        height, width = self.window_size
        index = cast(Tensor, self.relative_position_index).view(height, width, height, width)
        index = index[: window[0], : window[1], : window[0], : window[1]].reshape(window[0] * window[1], -1)
        # an embedding's gradient is summed in a fixed order on a CPU; that of plain indexing is not
        return functional.embedding(index, self.relative_position_bias_table).permute(2, 0, 1)


def mix_plainly(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale Q K^T + bias + mask) V of every window and head.

    Parameters
    ----------
    query, key, value
        (B * windows, heads, area, d).
    bias
        (heads, area, area).
    mask
        (windows, area, area), or None for zeros.

    Returns
    -------
    Tensor
        (B * windows, heads, area, d).
    """
    # `baddbmm` would need the bias spelled out per window; adding it to the product is as fast on a CPU
    logits = (query * scale) @ key.transpose(-2, -1) + bias
    if mask is not None:
        of_windows = logits.view(-1, len(mask), *logits.shape[1:]) + mask.to(logits.dtype)[None, :, None]
        logits = of_windows.view(logits.shape)
    return logits.softmax(dim=-1) @ value


def mix_fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The same by one kernel that keeps no logits, which a GPU spends most of its time on otherwise.

    Windows of an image count as heads, so that their biases are the same for all images and are not spelled out; heads
    are filled up with zeros to a multiple of 8 channels, which the kernel asks for.
    """
    count, heads, area, channels = query.shape
    together = bias[None] if mask is None else bias[None] + mask[:, None].to(bias.dtype)
    together = together.to(query.dtype).contiguous()  # as the kernel wants them
    windows = len(together)
    filling = -channels % 8
    if filling:
        query, key, value = (functional.pad(each, (0, filling)) for each in (query, key, value))
    query, key, value = (each.reshape(-1, windows * heads, *each.shape[2:]) for each in (query, key, value))
    together = together.view(1, windows * heads, area, area).expand(len(query), -1, -1, -1)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=together, scale=scale)
    return mixed.reshape(count, heads, area, -1)[..., :channels]


class SwinBlock(timm_swin.SwinTransformerBlock):
    """timm's Swin block without a size of its own: window and shift follow from each map.

    A map no larger than the window along a side is one window there, without shift. A map that
    the window does not divide is padded, and nothing looks at the padding. (timm's block lets
    tokens look at padding, and one built for one size silently uses its mask at another.)
    """

    def __init__(self, channels: int, heads: int, window: int, shift: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__(
            channels,
            input_resolution=window,
            num_heads=heads,
            window_size=window,
            shift_size=shift,
            always_partition=True,  # keeps window and shift as given
            dynamic_mask=True,  # makes no mask at construction
            mlp_ratio=mlp_ratio,
            drop_path=drop_path,
        )
        self.attn = WindowAttention(channels, heads, window_size=window)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """(N, h, w, C) to (N, h, w, C), with the mask that `mask_of` gives."""
        x = x + self.drop_path1(self._attend(self.norm1(x), mask))
        return cast(Tensor, x + self.drop_path2(self.mlp(self.norm2(x))))

    def mask_of(self, height: int, width: int, device: torch.device) -> Tensor | None:
        """Mask of the attention on a map of this size, None where all tokens of a window may look at each other."""
        window, shift, padded = self._cut(height, width)
        if any(shift) or padded != (height, width):
            return attention_mask((height, width), window, shift, device)
        return None

    def _cut(self, height: int, width: int) -> tuple[Size, Size, Size]:
        """Window, shift and padded size of a map."""
        window = (min(self.window_size[0], height), min(self.window_size[1], width))
        shift = (self.shift_size[0] if height > window[0] else 0, self.shift_size[1] if width > window[1] else 0)
        return window, shift, (-height % window[0] + height, -width % window[1] + width)

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        _, height, width, channels = x.shape
        window, shift, padded = self._cut(height, width)
        if padded != (height, width):
            x = functional.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
        if any(shift):
            x = torch.roll(x, shifts=(-shift[0], -shift[1]), dims=(1, 2))
        windows = timm_swin.window_partition(x, window).view(-1, window[0] * window[1], channels)
        windows = self.attn(windows, mask=mask, window=window)
        x = timm_swin.window_reverse(windows.view(-1, *window, channels), window, *padded)
        if any(shift):
            x = torch.roll(x, shifts=shift, dims=(1, 2))
        return x[:, :height, :width]


@lru_cache(maxsize=256)
def attention_mask(size: Size, window: Size, shift: Size, device: torch.device) -> Tensor:
    """Which tokens of a window must not look at each other: neighbours only by the roll, and padding.

    Returns
    -------
    Tensor
        (windows, h * w, h * w), 0 or -100.
    """
    padded = [-side % step + side for side, step in zip(size, window, strict=True)]
    with torch.inference_mode(False):  # the cache outlives the mode it is filled in
        regions = []
        for side, whole, step in zip(size, padded, shift, strict=True):
            region = torch.zeros(whole, dtype=torch.long)
            region[:step] = 1  # comes to lie beside the far end
            region[side:] = 2  # padding
            regions.append(torch.roll(region, -step))
        rows, columns = regions
        labels = rows[:, None] * 3 + columns[None, :]
        labels[(rows == 2)[:, None] | (columns == 2)[None, :]] = 9
        labels = timm_swin.window_partition(labels[None, :, :, None], window).view(-1, window[0] * window[1])
        return torch.where(labels[:, None] == labels[:, :, None], 0.0, -100.0).to(device)


class SwinBlocks(nn.ModuleList):
    """Blocks one after the other. What is worth compiling: it leaves to its caller what depends on the size alone."""

    def forward(self, x: Tensor, masks: Sequence[Tensor | None]) -> Tensor:
        """(N, h, w, C) to (N, h, w, C), with a mask for each block."""
        for block, mask in zip(self, masks, strict=True):
            x = block(x, mask)
        return x


class SwinStage(nn.Module):
    """Swin blocks at one resolution, every second one shifted by half a window."""

    def __init__(
        self, channels: int, depth: int, heads: int, window: int, mlp_ratio: float, drop_paths: Sequence[float]
    ) -> None:
        super().__init__()
        self.blocks = SwinBlocks(
            SwinBlock(channels, heads, window, window // 2 if index % 2 else 0, mlp_ratio, drop_paths[index])
            for index in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to (N, h, w, C)."""
        _, height, width, _ = x.shape
        masks = [cast(SwinBlock, block).mask_of(height, width, x.device) for block in self.blocks]
        return cast(Tensor, self.blocks(x, masks))


class PatchMerging(timm_swin.PatchMerging):
    """timm's merging of 2 x 2 tokens: (N, h, w, C) to (N, h/2, w/2, 2C)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
