"""Whether a device computes in bfloat16, or only pretends to."""

from __future__ import annotations

import torch

BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Names, in `torch.cpu.get_capabilities`, of the instructions that multiply in bfloat16 (x86-64, then ARM)."""


def computes_in_bfloat16(device: str) -> bool:
    """Whether `device` ("cpu", "cuda", "cuda:1", ...) multiplies in bfloat16.

    Every device takes bfloat16, but one without such instructions is slower in it than in float32; a CPU with AVX2
    alone took eighty times as long for a matrix product.
    """
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16_UNITS)
