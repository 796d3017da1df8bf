"""Training and inference of `base` at 128 px on a GPU: `python -m tests.benchmarks.gpu_training [MEASUREMENT ...]`.

Masked reconstruction by the product's own `fit`, in bfloat16, with the augmentation and the new observing of stamps
of 152 px in float16. A model's FLOPs are those of its matrix products and convolutions, forward and backward; the
utilisation (MFU) is the share that they are of what a large product of bfloat16 matrices reaches on the same card.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from galaxy_models.augment import Augmentation
from galaxy_models.compilation import compile_parts, worth_compiling
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import LOOKS, GalaxyLVM, build_lvm
from galaxy_models.pooling import mean_and_spread
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.reobserve import Reobservation
from galaxy_models.survey_statistics import ObservedConditions, SurveyStatistics
from galaxy_models.training import BatchTooLargeError, fit
from galaxy_models.training.records import Progress
from infra.profile import PretrainSettings
from tasks.train.stamp_batches import stamp_batches
from tests.benchmarks.gpu_kernels import KernelClock
from tests.benchmarks.loader_vs_zarr import BANDS, make_store
from tests.benchmarks.result import report

PRESET, STAMP, CROP, BATCH = "base", 152, 128, 256
INPUTS = InputSpec(BANDS, STAMP, CROP, 1, (0.2, 0.3), False)
STAMPS = 4096
"""Of the store: half a gigabyte, which the page cache holds."""

WARM, STEPS, PROFILED = 12, 40, 8
WORKERS = 8
BATCHES = (64, 128, 256, 512)
SURVEY = 76_000_000
MATRIX = 8192

Batches = Callable[[int], Iterable[dict[str, Any]]]


def card() -> str:
    """Such as `h200`, of NVIDIA H200."""
    return torch.cuda.get_device_name().removeprefix("NVIDIA ").split()[0].lower()


def matrix_rate() -> float:
    """FLOP/s of a product of two large random bfloat16 matrices."""
    left, right = torch.randn(2, MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
    return 2 * MATRIX**3 / seconds_of(lambda: left @ right)


def seconds_of(work: Callable[[], Any], warm: int = 5, times: int = 20) -> float:
    """Mean time of many calls, after some that do not count."""
    for _ in range(warm):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


def flops_per_stamp() -> float:
    """Of forward and backward pass."""
    with torch.device("meta"):
        network = build_lvm(PRESET)
        rgb, hidden = torch.rand(BATCH, 3, CROP, CROP), torch.zeros(BATCH, 1, CROP, CROP, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        network(rgb, hidden).sum().backward()
    return float(counter.get_total_flops()) / BATCH


def new_objective() -> MaskedReconstruction:
    """Untrained, with a survey's conditions of every stamp."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    conditions = ObservedConditions(
        seeing=1 + 0.5 * torch.rand(STAMPS, len(BANDS), generator=draw),
        noise=0.01 + 0.02 * torch.rand(STAMPS, len(BANDS), generator=draw),
        reddening=0.1 * torch.rand(STAMPS, generator=draw),
        pixel_scale=torch.full((STAMPS,), 0.262),
    )
    return MaskedReconstruction(
        build_lvm(PRESET),
        INPUTS,
        "nanomaggy",
        mask_patch=16,
        mask_fraction=0.6,
        augmentation=Augmentation(),
        reobservation=Reobservation(conditions, SurveyStatistics.measured(conditions, BANDS)),
    )


def ready_made(size: int) -> Batches:
    """Batches of sky noise that lie on the GPU already."""
    draw = torch.Generator("cuda").manual_seed(0)
    images = [
        (0.01 * torch.randn(size, len(BANDS), STAMP, STAMP, generator=draw, device="cuda")).half() for _ in range(4)
    ]
    batches = [{"images": each, "rows": torch.arange(size) + place * size} for place, each in enumerate(images)]
    return lambda first: itertools.islice(itertools.cycle(batches), first % len(batches), None)


def step_seconds(batches: Batches, compiled: bool, warm: int = WARM, steps: int = STEPS) -> float:
    """Mean time of `steps` steps of `fit` after `warm` others; what a run does at its end is not counted."""
    clock: dict[int, float] = {}

    def tell(done: int, total: int, note: str = "") -> None:
        if done in (warm, total - 1):
            torch.cuda.synchronize()
            clock[done] = time.perf_counter()

    trained(batches, compiled, warm + steps + 1, tell)
    first, last = clock
    return (clock[last] - clock[first]) / (last - first)


def trained(batches: Batches, compiled: bool, steps: int, progress: Progress) -> None:
    """So many steps of `fit` from the beginning, without a checkpoint on the way."""
    with tempfile.TemporaryDirectory() as folder:
        fit(
            new_objective(),
            batches,
            steps=steps,
            folder=Path(folder),
            checkpoint_steps=steps,
            learning_rate=1e-4,
            weight_decay=0.05,
            seed=0,
            compiled=compiled,
            progress=progress,
            device="cuda",
        )


def train() -> None:
    """Eager and compiled, on ready-made tensors."""
    rate, flops = matrix_rate(), flops_per_stamp()
    report(f"{card()}_matrix_tflops", rate / 1e12, "TFLOP/s, bfloat16", "reported", True)
    report(f"{card()}_train_gflops", flops / 1e9, "GFLOP a stamp", "reported", True)
    started = time.perf_counter()
    seconds = {compiled: step_seconds(ready_made(BATCH), compiled) for compiled in (False, True)}
    print(f"both trainings with compiling: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    for compiled, name in ((False, "eager"), (True, "compiled")):
        speed = BATCH / seconds[compiled]
        report(f"{card()}_train_{name}", speed, f"stamps/s, batches of {BATCH}", "reported", True)
        mfu = speed * flops / rate
        report(f"{card()}_train_mfu{'' if compiled else '_eager'}", mfu, "share of the matrix rate", "reported", True)
    gain = seconds[False] / seconds[True]
    report(f"{card()}_compiled_vs_eager", gain, "ratio", ">= 1.8", gain >= 1.8)
    hours = SURVEY * seconds[True] / BATCH / 3600
    report(f"{card()}_survey_epoch", hours, "GPU hours for 76 million stamps", "reported", True)


def loader() -> None:
    """Compiled, from a stamp store by reading processes, over ready-made tensors."""
    settings = PretrainSettings(preset=PRESET, batch_size=BATCH, crop=CROP, binning=1, loader_workers=WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder), STAMPS, STAMP)

        def stored(first: int) -> Iterable[dict[str, Any]]:
            return stamp_batches(folder, np.arange(STAMPS), settings, first)

        alone = step_seconds(ready_made(BATCH), compiled=True)
        # the readers have batches ready when the clock starts, which must not make slow ones look fast
        ratio = alone / step_seconds(stored, compiled=True, warm=6 * WORKERS, steps=16 * WORKERS)
    report(f"{card()}_loader", ratio, f"of the rate on ready-made tensors, {WORKERS} readers", ">= 0.9", ratio >= 0.9)


def infer() -> None:
    """Encoding of stamps in batches that lie on the GPU; an embedding takes `LOOKS` of them."""
    batch = next(iter(ready_made(BATCH)(0)))["images"]
    rates: dict[str, float] = {}
    for name, half, compiled in (("float32", False, False), ("eager", True, False), ("compiled", True, True)):
        network = build_lvm(PRESET).eval().cuda()
        network.encodes_in_bfloat16 = half
        if compiled:
            compile_parts(worth_compiling(network))
        rates[name] = BATCH / seconds_of(lambda n=network: seen(n, batch))  # type: ignore[misc]
        report(f"{card()}_infer_{name}", rates[name], f"looks/s, batches of {BATCH}", "reported", True)
    hours = LOOKS * SURVEY / max(rates.values()) / 3600
    report(f"{card()}_survey_infer", hours, "GPU hours for 76 million stamps", "reported", True)


@torch.inference_mode()
def seen(network: GalaxyLVM, stamps: Tensor) -> Tensor:
    """(N, D) of raw stamps in one look."""
    return mean_and_spread(network.encode(INPUTS.to_network(stamps, "nanomaggy")))


def memory() -> None:
    """The most that a training holds, by the size of its batches, eager."""
    for size in BATCHES:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        step_seconds(ready_made(size), compiled=False, warm=1, steps=2)
        held = torch.cuda.max_memory_allocated() / 2**30
        report(f"{card()}_train_memory_{size}", held, f"GiB, eager, batches of {size}", "reported", True)


def kernels() -> None:
    """What the GPU does in a compiled step, by kind of kernel; about as much as is left of the time it waits."""
    clock = KernelClock()

    def tell(done: int, total: int, note: str = "") -> None:
        if done == WARM:
            clock.start()
        if done == total - 1:
            clock.stop()

    trained(ready_made(BATCH), True, WARM + PROFILED + 1, tell)
    shares = clock.shares()
    for name, share in {**shares, "busy": sum(shares.values())}.items():
        report(f"{card()}_train_kernels_{name}", share, "share of a compiled step", "reported", True)
    for name, share in clock.longest():
        print(f"{share:6.1%}  {name[:120]}", file=sys.stderr)


MEASUREMENTS = (train, loader, infer, memory, kernels)


def chosen(names: list[str]) -> Iterator[Callable[[], None]]:
    """The measurements of these names; all without any."""
    known = {measure.__name__: measure for measure in MEASUREMENTS}
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"no measurement {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    yield from (known[name] for name in names or known)


def main(names: list[str]) -> None:
    """What is named, where there is a GPU."""
    measurements = list(chosen(names))
    if not torch.cuda.is_available():
        print("gpu_training: there is no GPU here, so nothing is measured", file=sys.stderr)
        return
    for measure in measurements:
        try:
            measure()
        except BatchTooLargeError as error:
            print(f"gpu_training, {measure.__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
