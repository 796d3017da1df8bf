"""Is this machine ready, and what will a run take? Measured where it can be, said to be a guess where not."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

import psutil
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.own_process import in_own_process
from deployments.training_needs import TrainingNeeds, processes_of, training_needs
from infra.environment import running_services
from infra.profile import Profile
from infra.settings import Settings
from tasks.chain import open_chain
from tasks.ingest.sources import open_source
from tasks.train.launch import check_gpus
from tasks.train.trial_steps import settings_of, shares_supposed

GIB = 2**30
MINIMUM_MEMORY = 6 * GIB
MINIMUM_DISK = 5 * GIB
STAMPS_CACHED = GIB
"""Most that the readers of a training keep of the stamps."""

READER = GIB // 2
"""A process that reads stamps ahead, without the stamps."""

SUPPOSED = {
    "adaptive": "equal shares are supposed; adaptive ones move while it trains",
    "equal": "equal shares, as the profile has them",
    "fixed": "shares as the profile has them",
}
"""What is said of fine-tuning's shares, by the profile's `shares`."""


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


def expect_run(console: Console, settings: Settings, survey: str, profile: str) -> bool:
    """Print what a run of this survey with this profile will take; False if a training will not fit into memory."""
    chain = open_chain(survey, profile)
    objects = sum(len(open_source(source, chain.survey, settings).rows()) for source in chain.survey.sources)
    size = chain.survey.stamp_size
    stamp_bytes = len(chain.survey.bands) * size**2 * (1 if chain.survey.units == "rgb" else 2)
    interpreter, cached = psutil.Process().memory_info().rss, min(STAMPS_CACHED, objects * stamp_bytes)
    needs = {}
    for stage, stamps in stamps_trained(chain.profile, objects).items():
        if not chain.missing_labels(stage):
            check_gpus(stage, processes_of(stage, chain.profile))
            console.print(f"trying a few steps of {stage} ...", highlight=False)
            needs[stage] = in_own_process(training_needs, stage, chain.profile, stamps, chain.survey)
    table = Table(title=f"a run of {survey} with {profile}", title_justify="left", show_header=False)
    table.add_row("objects", f"{objects}", "")
    table.add_row("stamps", f"{objects * stamp_bytes / GIB:.2f} GiB on disk", "")
    table.add_row("training", f"about {_time(sum(need.hours for need in needs.values()))}, by a few steps just now", "")
    enough = True
    for stage, need in needs.items():
        host = _host_memory(need, stage, chain.profile, interpreter) + cached
        gpu = f", {need.memory_bytes / GIB:.1f} GiB of the GPU" if need.on_gpu else ""
        advice = _what_to_do(need, host, settings_of(stage, chain.profile).batch_size)
        enough = enough and not advice
        verdict = Text(advice, "red") if advice else "ok"
        table.add_row(f"  {stage}", f"{_time(need.hours)}, {host / GIB:.1f} GiB{gpu}", verdict)
        if need.step_seconds:
            table.add_row("", _tasks(need.step_seconds, shares_supposed(chain.profile.finetune, chain.survey)), "")
            table.add_row("", SUPPOSED[chain.profile.finetune.shares], "")
    table.add_row(
        "memory", f"about {_memory(stamp_bytes, chain.profile.cluster.workers):.1f} GiB in the other stages", ""
    )
    console.print(table)
    return enough


def stamps_trained(profile: Profile, objects: int) -> dict[str, float]:
    """How many stamps each training stage goes through, if seven tenths of the objects train it."""
    train = round(0.7 * objects)
    pretrain, finetune, align = profile.pretrain, profile.finetune, profile.align
    return {
        "pretrain": pretrain.steps(train) * pretrain.stamps_per_step,
        "finetune": finetune.steps(train) * finetune.stamps_per_step,
        "align": (align.stage1_steps + align.steps(train)) * align.stamps_per_step,
        "find-lenses": profile.find_lenses.steps * profile.find_lenses.stamps_per_step,
    }


def _tasks(seconds: Mapping[str, float], shares: Mapping[str, float]) -> str:
    """How often each task is trained, and how long a step of it takes."""
    return "\n".join(f"{shares[task]:.0%} {task}, {each:.2g} s a step" for task, each in seconds.items())


def _time(hours: float) -> str:
    return f"{60 * hours:.1f} min" if hours < 2 else f"{hours:.1f} h"


def _host_memory(need: TrainingNeeds, stage: str, profile: Profile, interpreter: int) -> int:
    """Bytes of all processes of a stage on the host, without the stamps that they keep."""
    step = 0 if need.on_gpu else need.memory_bytes
    readers = profile.pretrain.loader_workers if stage == "pretrain" else 0
    return processes_of(stage, profile) * (interpreter + step + readers * READER)


def _what_to_do(need: TrainingNeeds, host: int, batch_size: int) -> str:
    """What to do if a step does not fit, else nothing."""
    asked, free = host, psutil.virtual_memory().available
    if need.on_gpu and host <= free:
        asked, free = need.memory_bytes, torch.cuda.mem_get_info()[0]
    if asked <= free:
        return ""
    return f"{free / GIB:.1f} GiB are free: lower `batch_size` from {batch_size} and raise `accumulate` by as much"


def _memory(stamp_bytes: int, workers: int) -> float:
    """GiB: interpreter with torch, one per worker, and the loader's cache, which is at most 1 GiB."""
    return 2.0 + 0.5 * workers + min(1.0, 20_000 * stamp_bytes / GIB) + 0.5
