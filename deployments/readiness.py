"""Is this machine ready, and what will a run take? Measured where it can be, said to be a guess where not."""

from __future__ import annotations

import os
import shutil
import sys
import time

import psutil
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from galaxy_models.lvm import build_lvm
from galaxy_models.precision import computes_in_bfloat16
from infra.environment import running_services
from infra.profile import PretrainSettings, Profile
from infra.settings import Settings
from tasks.chain import open_chain
from tasks.ingest.sources import open_source

GIB = 2**30
MINIMUM_MEMORY = 6 * GIB
MINIMUM_DISK = 5 * GIB
STEPS_MEASURED = 6
RELATIVE_COST = {"pretrain": 1.0, "finetune": 0.5, "align": 0.9, "find-lenses": 5.5}
"""Time per stamp of each training in that of pre-training, with the shipped profile on two cores; roughly."""


def check_machine(console: Console, settings: Settings) -> bool:
    """Print a table of what is there and what is needed; False if something needed is missing."""
    home = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(home).free
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; everything runs on the CPU"
    services = running_services(settings)
    rows: list[tuple[str, str, bool]] = [
        ("Python", sys.version.split()[0], sys.version_info >= (3, 11)),
        ("cores", str(os.cpu_count()), True),
        ("free memory", f"{memory / GIB:.1f} GiB, {MINIMUM_MEMORY / GIB:.0f} needed", memory >= MINIMUM_MEMORY),
        ("free disk", f"{disk / GIB:.1f} GiB in {home}, {MINIMUM_DISK / GIB:.0f} needed", disk >= MINIMUM_DISK),
        ("writable home", str(settings.home), os.access(home, os.W_OK)),
        ("GPU", gpu, True),
        ("services", ", ".join(services.values()) or "not running; `galaxy up` starts them", True),
        ("sky folder", f"{settings.sky}{'' if settings.sky.is_dir() else ' (missing: only real_sky needs it)'}", True),
    ]
    table = Table(title="this machine", title_justify="left", show_header=False)
    for name, value, good in rows:
        table.add_row(name, value, "ok" if good else Text("not enough", "red"))
    console.print(table)
    return all(good for _, _, good in rows)


def expect_run(console: Console, settings: Settings, survey: str, profile: str) -> None:
    """Print what a run of this survey with this profile will take."""
    chain = open_chain(survey, profile)
    objects = sum(len(open_source(source, chain.survey, settings).rows()) for source in chain.survey.sources)
    stamp_bytes = len(chain.survey.bands) * chain.survey.stamp_size**2 * (1 if chain.survey.units == "rgb" else 2)
    seconds_per_stamp = measure_training(chain.profile.pretrain, chain.profile.threads)
    minutes = {
        stage: RELATIVE_COST[stage] * stamps * seconds_per_stamp / 60
        for stage, stamps in stamps_trained(chain.profile, objects).items()
    }
    table = Table(title=f"a run of {survey} with {profile}", title_justify="left", show_header=False)
    table.add_row("objects", f"{objects}")
    table.add_row("stamps", f"{objects * stamp_bytes / GIB:.2f} GiB on disk")
    table.add_row("training", f"about {sum(minutes.values()):.0f} min: " + _listed(minutes))
    table.add_row(
        "measured", f"{1 / seconds_per_stamp:.0f} stamps/s in pre-training, just now; other stages in proportion"
    )
    table.add_row("memory", f"about {_memory(stamp_bytes, chain.profile.cluster.workers):.1f} GiB")
    console.print(table)


def stamps_trained(profile: Profile, objects: int) -> dict[str, float]:
    """How many stamps each training stage goes through, if seven tenths of the objects train it."""
    train = round(0.7 * objects)
    pretrain, finetune, align = profile.pretrain, profile.finetune, profile.align
    return {
        "pretrain": pretrain.steps(train) * pretrain.batch_size,
        "finetune": finetune.steps(train) * finetune.batch_size,
        "align": (align.stage1_steps + align.steps(train)) * align.batch_size,
        "find-lenses": profile.find_lenses.steps * profile.find_lenses.batch_size,
    }


def measure_training(settings: PretrainSettings, threads: int) -> float:
    """Seconds per stamp of a training step: the fastest of a few small ones, since other load comes and goes."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_lvm(settings.preset).to(device).to(memory_format=torch.channels_last)
    size = settings.crop // settings.binning
    batch = torch.rand(min(settings.batch_size, 32), 3, size, size, device=device)
    fastest = float("inf")
    half = computes_in_bfloat16(device)
    for _ in range(STEPS_MEASURED):
        started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            loss = network(batch.contiguous(memory_format=torch.channels_last)).float().abs().mean()
        loss.backward()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest / len(batch)


def _listed(minutes: dict[str, float]) -> str:
    return ", ".join(f"{stage} {value:.1f}" for stage, value in minutes.items())


def _memory(stamp_bytes: int, workers: int) -> float:
    """GiB: interpreter with torch, one per worker, and the loader's cache, which is at most 1 GiB."""
    return 2.0 + 0.5 * workers + min(1.0, 20_000 * stamp_bytes / GIB) + 0.5
