"""What torchrun starts: one of the processes of a training. It speaks to `tasks.train.launch` in lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.stage import StageContext


def main(job: Path) -> None:
    """Train what the job describes."""
    # imported here, since each reader of stamps imports this file as well and needs none of it
    from torch import distributed

    from galaxy_models.training import Interrupted
    from tasks.train import finetune_network, pretrain_network
    from tasks.train.launch import ERRORS

    stage, context = read_job(job)
    code = 0
    try:
        if stage == "finetune":
            finetune_network.train_network(context, finetune_network.open_finetuning(context))
        if stage == "pretrain":
            pretrain_network.train_network(context, pretrain_network.open_pretraining(context))
    except Interrupted as error:
        tell("error", type(error).__name__, str(error))
        code = int(error.code or 0)
    except BaseException as error:
        # the others wait for this one, and to leave them in order would be to wait for them
        if type(error).__name__ in ERRORS:
            tell("error", type(error).__name__, str(error))
        else:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    if distributed.is_initialized():
        distributed.destroy_process_group()
    sys.exit(code)


def read_job(path: Path) -> tuple[str, StageContext]:
    """The stage, and what `train_in_processes` was handed for it; the first process tells how it goes."""
    from infra.profile import Profile
    from infra.settings import Settings
    from tasks.ingest.survey import SurveyDefinition
    from tasks.stage import StageContext

    content = json.loads(path.read_text())
    context = StageContext(
        survey=SurveyDefinition.model_validate(content["survey"]),
        profile=Profile.model_validate(content["profile"]),
        settings=Settings.model_validate(content["settings"]),
        folder=Path(content["folder"]),
        upstream=content["upstream"],
        progress=_progress,
        record=_record,
    )
    return content["stage"], context


def tell(kind: str, *values: Any) -> None:
    """Say it to the process that waits for this training; if that is gone, save and stop.

    A line is one write: torchrun starts its processes unbuffered, where `print` writes a line and its end apart, and
    all of them write to one pipe.
    """
    try:
        sys.stdout.write(json.dumps({"kind": kind, "values": values}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the next line breaks nothing
        os.kill(os.getpid(), signal.SIGTERM)


def _progress(done: int, total: int, note: str = "") -> None:
    tell("progress", done, total, note)


def _record(step: int, metrics: Mapping[str, float]) -> None:
    tell("record", step, dict(metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
