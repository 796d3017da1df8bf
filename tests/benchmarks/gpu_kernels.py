"""What a GPU does during a step: the time of its kernels, by kind.

Kernels that run side by side are counted each, and the profiler's own work counts as time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import torch

KINDS = {
    "compiled": ("triton",),  # first, since their names tell all that was fused into them
    "attention": ("fmha", "flash", "attention", "softmax"),
    "convolution": ("convolution", "convolve", "cudnn", "dgrad", "wgrad", "fprop"),
    "matrix": ("gemm", "gemv", "nvjet", "cutlass", "xmma", "cublas", "splitk"),
    "optimiser": ("multi_tensor", "adam", "foreach"),
    "copy": ("memcpy", "memset", "direct_copy", "copy_kernel"),
}
"""Parts of kernels' names; the first kind that has one of them takes the kernel."""

OTHER = "other"


def kind_of(kernel: str) -> str:
    """Of what kind a kernel is, by its name."""
    name = kernel.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), OTHER)


class KernelClock:
    """Times what runs on the GPU between `start` and `stop`."""

    def __init__(self) -> None:
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        self.started = self.seconds = 0.0

    def start(self) -> None:
        """Begin."""
        torch.cuda.synchronize()
        self.profiler.start()
        self.started = time.perf_counter()

    def stop(self) -> None:
        """End, when all that was asked for is done."""
        torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started
        self.profiler.stop()

    def shares(self, kind: Callable[[str], str] = kind_of) -> dict[str, float]:
        """Share of the time that each kind of kernel ran."""
        seconds: Counter[str] = Counter()
        for event in self.profiler.key_averages():
            if event.is_user_annotation:
                continue  # its kernels are there by themselves
            seconds[kind(event.key)] += event.self_device_time_total / 1e6
        return {name: spent / self.seconds for name, spent in seconds.items()}

    def longest(self, count: int = 15) -> list[tuple[str, float]]:
        """Names and shares of the kernels that took most of the time."""
        return Counter(self.shares(str)).most_common(count)
