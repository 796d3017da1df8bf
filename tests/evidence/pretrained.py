"""The large vision model, pre-trained without labels as the pipeline does it, on a choice of stamps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from galaxy_models.lvm import GalaxyLVM, build_lvm
from galaxy_models.training import fit
from infra.profile import PretrainSettings
from infra.progress import silent
from infra.stage_folder import canonical_digest
from tasks.train.pretexts import pretext_objective, tells_answers
from tasks.train.simulated_pictures import simulated_pictures
from tests.evidence.simulated import simulator_digest
from tests.evidence.stamps import INPUTS, Stamps
from tests.evidence.workbench import Workbench

STATISTICS_STAMPS = 1024


@dataclass(frozen=True)
class Pretraining:
    """How long, and on what question; the rest is the pipeline's default."""

    preset: str
    steps: int
    batch_size: int
    learning_rate: float
    pretexts: tuple[tuple[str, float], ...] = (("measures", 1.0), ("answers", 1.0))
    pictures: int = 10_000
    seed: int = 0


def untrained(
    stamps: Stamps, rows: NDArray[np.int64], preset: str, seed: int, tells_answers: bool = False
) -> GalaxyLVM:
    """The network with its first weights, which depend on the seed alone, and the colours of `rows`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_lvm(preset, tells_answers)
    sample = network_input(stamps, _sample(rows, seed))
    network.set_rgb_statistics(sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))
    return network


def pretrained(bench: Workbench, stamps: Stamps, rows: NDArray[np.int64], how: Pretraining, threads: int) -> GalaxyLVM:
    """The network pre-trained on `rows` alone: kept from an earlier run of the same code, or trained now.

    A training that was stopped goes on from its checkpoint.
    """
    identity = {**asdict(how), "code": bench.code, "rows": hashlib.sha256(rows.tobytes()).hexdigest()}
    folder = bench.folder.parent / "pretrained" / canonical_digest(identity)[:16]
    weights = folder / "weights.safetensors"
    settings = PretrainSettings(
        preset=how.preset, pretexts=dict(how.pretexts), seed=how.seed, simulated_pictures=how.pictures
    )
    network = untrained(stamps, rows, how.preset, how.seed, tells_answers(settings))
    if weights.exists():
        network.load_state_dict(load_file(weights))
        return network.eval()
    bench.say(f"pre-training {how.preset} on {len(rows)} stamps, {how.steps} steps of {how.batch_size}")
    pictures = None
    if tells_answers(settings):
        folder_of_pictures = bench.folder.parent / f"simulated-{simulator_digest()}"
        pictures = simulated_pictures(folder_of_pictures, how.pictures, INPUTS.network_size, threads, silent)
    sample = network_input(stamps, _sample(rows, how.seed))
    fit(
        pretext_objective(network, INPUTS, "rgb", settings, None, sample, pictures),
        lambda first: _batches(stamps, rows, how, first),
        steps=how.steps,
        folder=folder / "training",
        checkpoint_steps=200,
        learning_rate=how.learning_rate,
        weight_decay=0.05,
        seed=how.seed,
        threads=threads,
    )
    save_file(network.state_dict(), weights)
    return network.eval()


def network_input(stamps: Stamps, rows: NDArray[np.int64]) -> Tensor:
    """(n, 3, 64, 64) float32 in 0..1: the middle of the stamps."""
    return INPUTS.to_network(torch.from_numpy(stamps.images[rows]), "rgb")


def _sample(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:STATISTICS_STAMPS])


def _batches(stamps: Stamps, rows: NDArray[np.int64], how: Pretraining, first: int) -> Iterator[dict[str, Any]]:
    """Batch b is a function of (seed, b): epoch after epoch, each in an order of its own."""
    per_epoch = len(rows) // how.batch_size
    number = first
    while True:
        epoch, place = divmod(number, per_epoch)
        order = np.random.default_rng([how.seed, epoch]).permutation(rows)
        chosen = order[place * how.batch_size : (place + 1) * how.batch_size]
        yield {"images": torch.from_numpy(stamps.images[chosen]), "rows": torch.from_numpy(chosen)}
        number += 1
