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

from galaxy_models.lvm import build_lvm
from infra.environment import running_services
from infra.profile import PretrainSettings
from infra.settings import Settings
from tasks.chain import open_chain
from tasks.ingest.sources import open_source

GIB = 2**30
MINIMUM_MEMORY = 6 * GIB
MINIMUM_DISK = 5 * GIB
STEPS_OF_A_FINETUNING_STEP = 1.6
"""A step of fine-tuning, alignment or lens finding in steps of pre-training; roughly."""


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
        table.add_row(name, value, "ok" if good else "[red]not enough[/red]")
    console.print(table)
    return all(good for _, _, good in rows)


def expect_run(console: Console, settings: Settings, survey: str, profile: str) -> None:
    """Print what a run of this survey with this profile will take."""
    chain = open_chain(survey, profile)
    objects = sum(len(open_source(source, chain.survey, settings).rows()) for source in chain.survey.sources)
    pixels = len(chain.survey.bands) * chain.survey.stamp_size**2
    stamp_bytes = pixels * (1 if chain.survey.units == "rgb" else 2)
    seconds_per_stamp = measure_training(chain.profile.pretrain, chain.profile.threads)
    pretrain = (
        min(chain.profile.pretrain.epochs * objects * 0.7, _most_stamps(chain.profile.pretrain)) * seconds_per_stamp
    )
    others = [
        (chain.profile.finetune.steps, chain.profile.finetune.batch_size),
        (chain.profile.align.stage1_steps + chain.profile.align.stage2_steps, chain.profile.align.batch_size),
        (chain.profile.find_lenses.steps, chain.profile.find_lenses.batch_size),
    ]
    later = sum(steps * batch for steps, batch in others) * seconds_per_stamp * STEPS_OF_A_FINETUNING_STEP
    table = Table(title=f"a run of {survey} with {profile}", title_justify="left", show_header=False)
    table.add_row("objects", f"{objects}")
    table.add_row("stamps", f"{objects * stamp_bytes / GIB:.2f} GiB on disk")
    table.add_row(
        "pre-training", f"{pretrain / 60:.1f} min, from {1 / seconds_per_stamp:.0f} stamps/s measured just now"
    )
    table.add_row("other training", f"about {later / 60:.1f} min, from the same figure")
    table.add_row("memory", f"about {_memory(stamp_bytes, chain.profile.cluster.workers):.1f} GiB")
    console.print(table)


def measure_training(settings: PretrainSettings, threads: int) -> float:
    """Seconds per stamp of a training step, from two small ones, on this machine as it is now."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_lvm(settings.preset).to(device)
    size = settings.crop // settings.binning
    batch = torch.rand(min(settings.batch_size, 32), 3, size, size, device=device)
    started = 0.0
    for step in range(3):
        if step == 1:  # the first allocates
            started = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = network(batch).float().abs().mean()
        loss.backward()
    return (time.perf_counter() - started) / (2 * len(batch))


def _most_stamps(settings: PretrainSettings) -> float:
    return settings.max_steps * settings.batch_size


def _memory(stamp_bytes: int, workers: int) -> float:
    """GiB: interpreter with torch, one per worker, and the loader's cache, which is at most 1 GiB."""
    return 2.0 + 0.5 * workers + min(1.0, 20_000 * stamp_bytes / GIB) + 0.5
