"""Training in two processes, as a stage: the same model as from one, and what ends it ends them all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from galaxy_models.training import CheckpointError, Interrupted
from infra.errors import GalaxyError
from infra.profile import FinetuneSettings, PretrainSettings
from tasks.stage import StageContext
from tasks.train import finetune_network
from tasks.train.finetune import finetune
from tasks.train.launch import train_in_processes
from tasks.train.pretrain_network import open_pretraining, train_network

pytestmark = pytest.mark.slow
Make = Callable[..., StageContext]


def trained(context: StageContext) -> tuple[dict[str, Any], list[float]]:
    pretraining = open_pretraining(context)
    history = train_network(context, pretraining)
    return pretraining.network.state_dict(), [point["loss"] for point in history]


def test_two_processes_stopped_and_resumed_train_what_one_process_trains(drawn_context: Make) -> None:
    # so many steps that the signal, which passes through torchrun, comes before the last on a busy machine as well
    options = {"batch_size": 4, "accumulate": 2, "max_steps": 40, "epochs": 40.0, "ema_decay": 0.9}
    alone, losses = trained(drawn_context(**options))
    records: list[int] = []
    context = drawn_context(**options, processes=2, record=lambda step, m: records.append(step))

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"saved after step \d+ of 40"):
        train_in_processes(replace(context, progress=stop), "pretrain", 2)
    steps: list[int] = []
    train_in_processes(replace(context, progress=lambda done, total, note="": steps.append(done)), "pretrain", 2)
    assert steps[0] > 1 and steps[-1] == 40, "it carried on from where it was stopped"
    together, joint_losses = trained(context)
    assert joint_losses == pytest.approx(losses, rel=1e-5)
    assert records == [9, 19, 29, 39], "each point is told once, in whichever process the training ran"
    for name, tensor in alone.items():
        np.testing.assert_allclose(together[name].numpy(), tensor.numpy(), atol=1e-5, err_msg=name)


@pytest.fixture
def finetune_context(drawn_context: Make, pretrained: Path) -> Make:
    """Makes the context of a fine-tuning on the drawn galaxies' classes; keywords are those of `drawn_context`."""

    def make(processes: int = 1, **fields: Any) -> StageContext:
        context = drawn_context(**fields)
        [table] = context.survey.labels
        settings = FinetuneSettings(
            batch_size=8,
            accumulate=4,
            epochs=100,
            max_steps=24,
            evaluate_steps=4,
            validation_stamps=12,
            checkpoint_steps=10,
            ema_decay=0.9,
            processes=processes,
        )
        return replace(
            context,
            survey=context.survey.model_copy(
                update={"labels": [table.model_copy(update={"feeds": ["classification"]})]}
            ),
            profile=context.profile.model_copy(update={"finetune": settings}),
            upstream={**context.upstream, "pretrain": {"model": str(pretrained), "weights_digest": "0" * 64}},
        )

    return make


def test_two_processes_stopped_and_resumed_fine_tune_as_one_does(finetune_context: Make) -> None:
    """Batches of a step may be of different tasks, and the shares of all follow what one process validates."""

    def trained_by(context: StageContext) -> tuple[dict[str, Any], list[dict[str, float]]]:
        finetuning = finetune_network.open_finetuning(context)
        history = finetune_network.train_network(context, finetuning)
        return finetuning.network.state_dict(), history

    alone, history = trained_by(finetune_context())
    context = finetune_context(processes=2)

    def stop(done: int, total: int, note: str = "") -> None:
        if total == 24 and done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"saved after step \d+ of 24"):
        finetune(replace(context, progress=stop))
    result = finetune(context)
    together, joint = trained_by(context)
    assert [{*point} for point in joint] == [{*point} for point in history], "the same tasks had their turns"
    # sums are of another order, and where the processor computes in bfloat16, a weight may then be rounded otherwise
    for one, two in zip(history, joint, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert len({point["share.restoration"] for point in joint if "share.restoration" in point}) > 1
    for name, tensor in alone.items():
        np.testing.assert_allclose(together[name].numpy(), tensor.numpy(), atol=2e-4, err_msg=name)
    assert "shape.accuracy" in result["metrics"] and result["parameters"]["processes"] == "2"


def test_lines_of_two_processes_never_mix() -> None:
    code = "from tasks.train.worker import tell\nfor i in range(3000): tell('progress', i, 3000, 'loss')"
    reading, writing = os.pipe()
    # unbuffered, as torchrun starts its processes
    told = [subprocess.Popen([sys.executable, "-u", "-c", code], stdout=writing) for _ in range(2)]
    os.close(writing)
    with open(reading) as lines:
        steps = [json.loads(line)["values"][0] for line in lines]
    assert [process.wait() for process in told] == [0, 0]
    assert sorted(steps) == sorted([*range(3000)] * 2)


def test_what_a_process_ends_with_is_raised_here(drawn_context: Make) -> None:
    context = drawn_context()
    checkpoint = context.folder / "training" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"(?s)checkpoint\.pt cannot be read.*delete it"):
        train_in_processes(context, "pretrain", 1)


def test_processes_that_cannot_share_a_step_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 `processes` cannot share the batches of a step, since `accumulate` is 4"):
        PretrainSettings(processes=3, accumulate=4)


def test_fewer_gpus_than_processes_are_refused_before_anything_starts(
    drawn_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    context = drawn_context()
    with pytest.raises(GalaxyError, match=r"`processes` is 2, but there are 1 GPUs"):
        train_in_processes(context, "pretrain", 2)
    assert list(Path(context.folder).iterdir()) == []
