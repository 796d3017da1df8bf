"""What a killed run left behind: the processes that it had started, which know their home and their run."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from infra.settings import Settings

RUN_VARIABLE = "GALAXY_RUN"
"""Process id and home of a run, in its environment, which all that it starts inherits."""

STOP_SECONDS = 10


def mark_run(settings: Settings) -> None:
    """Let the processes that this one starts from now on be known as its own."""
    os.environ[RUN_VARIABLE] = run_mark(os.getpid(), settings)


def run_mark(pid: int, settings: Settings) -> str:
    """What the processes of a run carry."""
    return f"{pid} {settings.home}"


def stop_leftovers(settings: Settings) -> int:
    """End the processes of this home whose run is dead; their number.

    A run that ends, however it ends, takes its processes along; one that is killed (SIGKILL, out of memory) cannot,
    and its Prefect server would go on for ever beside the next run's.
    """
    left = [process for process in psutil.process_iter() if _is_left_over(process, settings)]
    for process in left:
        with suppress(psutil.Error):  # it may end with another of them
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=STOP_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    return len(left)


def _is_left_over(process: psutil.Process, settings: Settings) -> bool:
    try:
        pid, _, home = process.environ().get(RUN_VARIABLE, "").partition(" ")
        if home != str(settings.home):
            return False
        run = int(pid)
        # a run that is younger than its process is another, which was given the number of the dead one
        return not psutil.pid_exists(run) or psutil.Process(run).create_time() > process.create_time()
    except (psutil.Error, ValueError, OSError):
        return False  # it ended meanwhile, or is none of ours to look at
