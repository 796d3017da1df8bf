"""The training: from a checkpoint if there is one, in one process or several, to the last step."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..compilation import compiling_pays, while_compiled
from ..lightning_manners import quiet
from ..precision import computes_in_bfloat16
from .errors import BatchTooLargeError, Interrupted
from .loop import ObjectIds, Steps, TrainingLoop
from .memory import advice, is_out_of_memory, largest_fitting, stamps_of
from .objective import Batch, Objective
from .plan import Plan
from .processes import this_process
from .records import History, Listener, Progress, Records


def fit(
    objective: Objective,
    batches_from: Callable[[int], Iterable[Batch]],
    *,
    steps: int,
    folder: Path,
    checkpoint_steps: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    warmup: int | None = None,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    compiled: bool = False,
    progress: Progress | None = None,
    record: Listener | None = None,
    record_steps: int = 10,
    object_ids: ObjectIds | None = None,
    threads: int = 1,
    device: str = "auto",
    bf16: bool = True,
    gradient_clip: float = 1.0,
    batch_size: int | None = None,
) -> History:
    """Train `objective` in place, from its checkpoint in `folder` if there is one.

    AdamW, no decay on biases, norms and other vectors; linear warm-up, then a cosine to 1 % of the peak rate.
    A run that was killed and is called again with the same arguments ends with the same weights, bit for bit,
    as one that was not (on a CPU of the same kind, with the same `threads` and number of processes).

    In processes that torchrun started, all call this with the same arguments and share the batches of each step: by
    DDP, over NCCL on GPUs and Gloo on CPUs. They train on the same batches with the same random numbers as one process
    would, so that losses differ by rounding alone (with batch norms by more: running means are of the first process's
    batches). The first writes and tells; all resume from its checkpoint.

    Parameters
    ----------
    objective
        See `Objective`. Its initial weights must be a function of the arguments too, or be in the checkpoint.
    batches_from
        `batches_from(b)` yields the batches b, b + 1, ... of the run; each is drawn only when its turn comes. In one of
        several processes it yields that one's own: b + rank, b + rank + count, ...; see `this_process`.
    steps
        Optimiser steps in all.
    folder
        Holds `checkpoint.pt`, replaced in one act every `checkpoint_steps` and at the end.
    warmup
        Steps of rising rate; a twentieth of `steps` by default.
    accumulate
        Batches in a step, over all processes; a multiple of their number. The step's gradient is their mean.
    ema_decay
        Decay of a moving average of the weights, which `on_step_end` and the caller then see in the weights' place;
        it rises to this value, see `decay_after`. 0: none.
    compiled
        Compile the objective's `compiled_parts`, on devices where that pays.
    progress
        Told after every step.
    record
        Told metrics every `record_steps` steps (means since the last), and whatever `on_step_end` returns. Points are
        passed on when a checkpoint covers them, so that a resumed run repeats none.
    object_ids
        From the rows of a batch to the ids of its objects, for messages.
    threads
        CPU threads; they are part of what makes results repeatable.
    device
        `auto` takes a GPU where there is one; `cpu` and `cuda` insist.
    bf16
        Forward and backward pass under bfloat16 autocast, on a device that computes in it; full precision elsewhere.
    gradient_clip
        Largest norm of a step's gradient, over all parameters together; larger ones are scaled down to it. 0: none.
    batch_size
        What batches are drawn for, where some have fewer stamps; where memory ends, the error names a smaller one. By
        default what the batch has that does not fit.

    Returns
    -------
    list of dict
        All recorded points, those from before a kill included.

    Raises
    ------
    DivergedError
        If a loss or the norm of a step's gradient is not finite. No checkpoint holds the weights after such a step.
    BatchTooLargeError
        If the device has no memory for a batch; the message says which size has been tried and fits.
    CheckpointError
        If the checkpoint is of other arguments or cannot be read.
    Interrupted
        After SIGTERM, once the state is saved. Only where this runs in the main thread: Python gives signals to no
        other. Elsewhere the last checkpoint is what remains.
    ValueError
        If `accumulate` is no multiple of the number of processes.
    """
    torch.set_num_threads(threads)
    processes = this_process()
    if accumulate % processes.count:
        raise ValueError(
            f"`accumulate` is {accumulate}: {processes.count} processes cannot share the batches of a step"
        )
    if warmup is None:
        warmup = max(1, steps // 20)
    plan = Plan(steps, checkpoint_steps, learning_rate, weight_decay, warmup, seed, record_steps, accumulate, ema_decay)
    folder.mkdir(parents=True, exist_ok=True)
    records = Records(folder / "recorded", record, processes)
    loop = TrainingLoop(objective, plan, folder, processes, records, progress, object_ids)
    loop.resume()
    if loop.step < steps:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        half = bf16 and computes_in_bfloat16(device)
        parts = objective.compiled_parts() if compiled and compiling_pays(device) else []
        with quiet(), torch.random.fork_rng(), loop.stop.listening(), while_compiled(parts):
            trainer = Trainer(
                accelerator="gpu" if device.startswith("cuda") else device,
                devices=processes.here,
                num_nodes=processes.nodes,
                strategy=_shared_by_ddp(objective) if processes.count > 1 else "auto",
                precision="bf16-mixed" if half else "32-true",
                max_epochs=1,
                accumulate_grad_batches=accumulate // processes.count,
                gradient_clip_val=gradient_clip,
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            _train(trainer, loop, Steps(batches_from, loop.step, plan, processes), half, batch_size)
    loop.settle()
    return records.history


def _shared_by_ddp(objective: Objective) -> DDPStrategy:
    return DDPStrategy(find_unused_parameters=not objective.every_parameter_learns, gradient_as_bucket_view=True)


def _train(trainer: Trainer, loop: TrainingLoop, steps: Steps, half: bool, batch_size: int | None) -> None:
    """Run Lightning's loop; what goes wrong leaves it as the errors that `fit` promises."""
    plan = loop.plan
    try:
        trainer.fit(loop, steps)
        return
    except SIGTERMException:  # heard before the loop itself could listen
        raise Interrupted(f"asked to stop as the training began; what {loop.checkpoint} holds is kept") from None
    except RuntimeError as error:
        if not is_out_of_memory(error) or loop.batch is None:
            raise
        cause = str(error)
        traceback.clear_frames(error.__traceback__)  # they hold the memory that the trial below needs
    batch, size, device = loop.batch, stamps_of(loop.batch), trainer.strategy.root_device
    batch_size = batch_size or size
    count = loop.processes.count
    fitting = largest_fitting(loop.objective, batch, batch_size, plan, device, bf16=half, processes=count)
    raise BatchTooLargeError(
        f"a batch of {size} stamps does not fit into the memory of {device} (step {loop.step}: {cause}); "
        f"{advice(size, batch_size, fitting, plan.accumulate)}"
    )
