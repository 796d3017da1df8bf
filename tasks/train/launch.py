"""Starts a training in several processes by torchrun, listens to them, and takes them along when it ends."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from galaxy_models.checkpoint import CheckpointError
from galaxy_models.training import BatchTooLargeError, DivergedError, Interrupted
from infra.errors import GalaxyError
from tasks.stage import StageContext

CODE = Path(__file__).resolve().parents[2]
"""Folder of the packages, for the processes to import them from."""

ERRORS: dict[str, type[BaseException]] = {
    error.__name__: error for error in (BatchTooLargeError, CheckpointError, DivergedError, GalaxyError, Interrupted)
}
"""What a process may end with that a user can mend; everything else is a fault, and its log is pointed at."""

STOP_SECONDS = 60
"""torchrun gives its processes 30 s to save."""


def check_gpus(stage: str, processes: int) -> None:
    """Raise GalaxyError if there are GPUs, but fewer than processes."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise GalaxyError(
            f"profile, section [{stage}]: `processes` is {processes}, but there are {gpus} GPUs; set {gpus}"
        )


def train_in_processes(context: StageContext, stage: str, processes: int) -> None:
    """Train `stage` in so many processes of this machine, until its last checkpoint is written.

    They carry on from the checkpoint in the stage's folder, tell `context.progress` and `context.record`, and stop when
    this process stops, however that happens: one that is killed leaves a broken pipe, which they take as SIGTERM.

    Raises
    ------
    GalaxyError
        If there are GPUs, but fewer than processes.
    BatchTooLargeError, CheckpointError, DivergedError, Interrupted
        As `fit` raises them.
    RuntimeError
        If they failed otherwise; the message names the log.
    """
    check_gpus(stage, processes)
    if torch.cuda.is_initialized():  # what earlier stages left there, the first process's GPU has no room for
        gc.collect()
        torch.cuda.empty_cache()
    context.folder.mkdir(parents=True, exist_ok=True)
    job, log = context.folder / "job.json", context.folder / "processes.log"
    job.write_text(json.dumps(_job(context, stage)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with log.open("w") as errors:
        torchrun = subprocess.Popen(
            [*command, "-m", "tasks.train.worker", str(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=_environment(context.profile.threads),
            start_new_session=True,  # Ctrl-C is for this process, which passes it on in order
        )
        told: list[tuple[str, str]] = []
        try:
            with _stopped_by_sigterm(torchrun) as stopped:
                for line in torchrun.stdout or ():
                    told += _listen(context, line)
                code = torchrun.wait()
        finally:
            _end(torchrun)
    # where one process failed, the others were stopped
    for kind, message in sorted(told, key=lambda each: each[0] == Interrupted.__name__):
        raise ERRORS[kind](message)
    if stopped:
        raise Interrupted("asked to stop; the last checkpoint is kept")
    if code:
        raise RuntimeError(f"the {processes} training processes of {stage} ended with status {code}; see {log}")


def _job(context: StageContext, stage: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "survey": context.survey.model_dump(mode="json"),
        "profile": context.profile.model_dump(mode="json"),
        # the processes track nothing, and an address may hold a password
        "settings": context.settings.model_copy(update={"mlflow_uri": ""}).model_dump(mode="json"),
        "folder": str(context.folder),
        "upstream": {name: dict(result) for name, result in context.upstream.items()},
    }


def _environment(threads: int) -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(CODE), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}


def _listen(context: StageContext, line: str) -> list[tuple[str, str]]:
    """Pass one line on; an error that it tells is returned. What libraries print is nobody's."""
    try:
        content = json.loads(line)
        kind, values = content["kind"], content["values"]
    except (ValueError, KeyError, TypeError):
        return []
    if kind == "progress":
        context.progress(*values)
    elif kind == "record":
        context.record(*values)
    elif kind == "error":
        return [(values[0], values[1])]
    return []


@contextmanager
def _stopped_by_sigterm(torchrun: subprocess.Popen[str]) -> Iterator[list[int]]:
    """SIGTERM goes on to the processes, which save and leave; the list is then not empty."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def pass_on(number: int, frame: object) -> None:
        heard.append(number)
        torchrun.terminate()

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(torchrun: subprocess.Popen[str]) -> None:
    if torchrun.poll() is None:
        torchrun.terminate()
        try:
            torchrun.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            torchrun.kill()
            torchrun.wait()
    if torchrun.stdout is not None:
        torchrun.stdout.close()
