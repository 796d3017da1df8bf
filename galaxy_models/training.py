"""One training loop for every network: exact resume after a kill, one checkpoint file, no surprises."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from .checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from .lightning_manners import quiet, sigterm_between_steps
from .precision import computes_in_bfloat16
from .schedule import rate_at, step_seed

__all__ = [
    "CheckpointError",
    "DivergedError",
    "History",
    "Interrupted",
    "Objective",
    "Progress",
    "fit",
    "rate_at",
    "step_seed",
]

Batch = dict[str, Any]
History = list[dict[str, float]]
"""Points of the run, oldest first: `step` and the metrics recorded at it."""


class DivergedError(RuntimeError):
    """The loss is not finite; the message names the step and the batch's rows."""


class Interrupted(SystemExit):
    """SIGTERM came; the state is saved and the process should end. Its exit status is 143."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message

    def __str__(self) -> str:
        """The message; SystemExit's own text is the exit status."""
        return self.message


class Objective(nn.Module):
    """What is trained: networks as submodules, and a loss.

    Only `training_step_at` must be written. A step may depend on nothing but the step number,
    the batch, the generator, the parameters and `extra_state`; then a resumed run equals an
    undisturbed one.
    """

    def training_step_at(
        self, step: int, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of one batch, and metrics to record.

        Parameters
        ----------
        step
            0 for the first.
        batch
            From `batches_from`; tensors lie on the training device.
        generator
            On the training device, seeded by seed and step; the source of every random number.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each `{"module": Module, "learning_rate_scale": float}`; no module twice.

        By default one group of everything, at the full rate. Parameters that ask for no gradient are left out.
        """
        return [{"module": self, "learning_rate_scale": 1.0}]

    def extra_state(self) -> dict[str, Any]:
        """Plain values and tensors beyond the parameters and buffers that a checkpoint must keep."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what `extra_state` gave."""

    def on_step_end(self, step: int) -> Mapping[str, float] | None:
        """Called after the optimiser's step; may evaluate, and return metrics to record."""
        return None


class Progress(Protocol):
    """Who is told how far the training is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps; `note` tells the loss."""


@dataclass(frozen=True)
class _Plan:
    steps: int
    checkpoint_steps: int
    learning_rate: float
    weight_decay: float
    warmup: int
    seed: int
    record_steps: int


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
    progress: Progress | None = None,
    record: Callable[[int, Mapping[str, float]], None] | None = None,
    record_steps: int = 10,
    threads: int = 1,
    device: str = "auto",
    bf16: bool = True,
    gradient_clip: float = 1.0,
) -> History:
    """Train `objective` in place, from its checkpoint in `folder` if there is one.

    AdamW, no decay on biases, norms and other vectors; linear warm-up, then a cosine to 1 % of the peak rate.
    A run that was killed and is called again with the same arguments ends with the same weights, bit for bit,
    as one that was not (on a CPU of the same kind, with the same `threads`).

    Parameters
    ----------
    objective
        See `Objective`. Its initial weights must be a function of the arguments too, or be in the checkpoint.
    batches_from
        `batches_from(k)` yields the batches of steps k, k + 1, ...; each is drawn only when its step begins.
    steps
        Optimiser steps in all.
    folder
        Holds `checkpoint.pt`, replaced in one act every `checkpoint_steps` and at the end.
    warmup
        Steps of rising rate; a twentieth of `steps` by default.
    progress
        Told after every step.
    record
        Told metrics every `record_steps` steps (means since the last), and whatever `on_step_end` returns. Points are
        passed on when a checkpoint covers them, so that a resumed run repeats none.
    threads
        CPU threads; they are part of what makes results repeatable.
    device
        `auto` takes a GPU where there is one; `cpu` and `cuda` insist.
    bf16
        Forward and backward pass under bfloat16 autocast, on a device that computes in it; full precision elsewhere.

    Returns
    -------
    list of dict
        All recorded points, those from before a kill included.

    Raises
    ------
    DivergedError
        If a loss is not finite.
    CheckpointError
        If the checkpoint is of other arguments or cannot be read.
    Interrupted
        After SIGTERM, once the state is saved. Only where this runs in the main thread: Python gives signals to no
        other. Elsewhere the last checkpoint is what remains.
    """
    torch.set_num_threads(threads)
    if warmup is None:
        warmup = max(1, steps // 20)
    plan = _Plan(steps, checkpoint_steps, learning_rate, weight_decay, warmup, seed, record_steps)
    folder.mkdir(parents=True, exist_ok=True)
    module = _Training(objective, plan, folder, progress, record)
    module.resume()
    if module.step < steps:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        with quiet(), torch.random.fork_rng():
            trainer = Trainer(
                accelerator="gpu" if device.startswith("cuda") else device,
                devices=1,
                precision="bf16-mixed" if bf16 and computes_in_bfloat16(device) else "32-true",
                max_epochs=1,
                gradient_clip_val=gradient_clip,
                default_root_dir=folder,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            try:
                with sigterm_between_steps():
                    trainer.fit(module, _Steps(batches_from, module.step, steps))
            except SIGTERMException:  # raised by Lightning between two steps
                module.save()
                raise Interrupted(
                    f"asked to stop; saved after step {module.step} of {steps} in {module.checkpoint}"
                ) from None
    return module.history


class _Steps:
    """The batches that are still to come. It has a length, so that Lightning fetches none ahead of its step."""

    def __init__(self, batches_from: Callable[[int], Iterable[Batch]], start: int, steps: int) -> None:
        self.batches_from = batches_from
        self.start = start
        self.steps = steps

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batches_from(self.start))
        for step in range(self.start, self.steps):
            try:
                yield next(batches)
            except StopIteration:
                raise RuntimeError(f"the batches ended before step {step} of {self.steps}") from None


class _Training(LightningModule):
    """Lightning's side of `fit`: optimiser, schedule, checkpoints."""

    def __init__(
        self,
        objective: Objective,
        plan: _Plan,
        folder: Path,
        progress: Progress | None,
        record: Callable[[int, Mapping[str, float]], None] | None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.plan = plan
        self.checkpoint = folder / "checkpoint.pt"
        self.recorded = folder / "recorded"
        self.report = progress
        self.record = record
        self.step = 0
        self.history: History = []
        self.optimizer_state: dict[str, Any] | None = None
        self.window: list[dict[str, float]] = []
        self.smooth_loss: float | None = None

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        state = load_checkpoint(self.checkpoint, _identity(self.plan))
        if state is None:
            self.recorded.unlink(missing_ok=True)
            return
        self.step = state.step
        self.history = state.history
        self.window = state.window
        self.smooth_loss = state.smooth_loss
        self.optimizer_state = state.optimizer
        self.objective.load_state_dict(state.weights)
        self.objective.load_extra_state(state.extra)
        self._pass_on_records()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the objective's groups, in the state of the checkpoint."""
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.objective, self.plan), lr=self.plan.learning_rate)
        if self.optimizer_state is not None:
            self.optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        return self.optimizer

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Set the rate of this step, and the seed of draws that take no generator (stochastic depth)."""
        torch.manual_seed(step_seed(self.plan.seed, self.step))
        rate = rate_at(self.step, self.plan.steps, self.plan.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * group["scale"] * rate

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The objective's loss, if it is a number."""
        generator = torch.Generator(self.device).manual_seed(step_seed(self.plan.seed, self.step))
        loss, metrics = self.objective.training_step_at(self.step, batch, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {self.step}, rows {_rows(batch)}; look at these stamps, or lower the "
                "learning rate. The last checkpoint is kept"
            )
        self.window.append({"loss": value, **{name: float(number) for name, number in metrics.items()}})
        self.smooth_loss = value if self.smooth_loss is None else 0.95 * self.smooth_loss + 0.05 * value
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Count the step, collect its metrics, save where it is time."""
        step = self.step
        self.step += 1
        last = self.step == self.plan.steps
        point: dict[str, float] = {}
        if self.step % self.plan.record_steps == 0 or last:
            rate = rate_at(step, self.plan.steps, self.plan.warmup)
            point = {**_means(self.window), "learning_rate": self.plan.learning_rate * rate}
            self.window = []
        point.update(self.objective.on_step_end(step) or {})
        if point:
            self.history.append({"step": step, **point})
        if self.step % self.plan.checkpoint_steps == 0 or last:
            self.save()
        if self.report is not None:
            self.report(self.step, self.plan.steps, f"loss {self.smooth_loss:.4f}")

    def save(self) -> None:
        """Write the checkpoint, then hand on the points that it covers."""
        state = Checkpoint(
            step=self.step,
            weights=self.objective.state_dict(),
            optimizer=self.optimizer.state_dict(),
            extra=self.objective.extra_state(),
            history=self.history,
            window=self.window,
            smooth_loss=self.smooth_loss,
        )
        save_checkpoint(self.checkpoint, state, _identity(self.plan))
        self._pass_on_records()

    def _pass_on_records(self) -> None:
        """Hand on the points that the checkpoint covers and that were not handed on before."""
        try:
            done = int(self.recorded.read_text())
        except (FileNotFoundError, ValueError):
            done = 0
        if self.record is not None:
            for point in self.history[done:]:
                self.record(int(point["step"]), {name: value for name, value in point.items() if name != "step"})
        temporary = self.recorded.with_name(f".{self.recorded.name}.tmp")
        temporary.write_text(str(len(self.history)))
        temporary.replace(self.recorded)


def _parameter_groups(objective: Objective, plan: _Plan) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    for group in objective.parameter_groups():
        scale = float(group.get("learning_rate_scale", 1.0))
        parameters = [p for p in group["module"].parameters() if p.requires_grad]
        for decays in (True, False):
            # biases, norms, tokens and scales are vectors
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            if chosen:
                decay = plan.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "scale": scale})
    return groups


def _identity(plan: _Plan) -> dict[str, float]:
    """What a checkpoint's run must have in common with ours to be carried on."""
    return {name: getattr(plan, name) for name in ("steps", "learning_rate", "weight_decay", "warmup", "seed")}


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the steps that had it."""
    names = sorted({name for values in window for name in values})
    columns = {name: [values[name] for values in window if name in values] for name in names}
    return {name: sum(column) / len(column) for name, column in columns.items()}


def _rows(batch: Batch) -> str:
    rows = batch.get("rows")
    return str(rows.tolist()) if isinstance(rows, Tensor) else "(the batch names none)"
