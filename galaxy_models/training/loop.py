"""Lightning's side of `fit`: what happens around a batch, a step and a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from ..checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from ..lightning_manners import StopSignal
from ..schedule import rate_at, step_seed
from .averaging import WeightAverage
from .errors import DivergedError, Interrupted
from .objective import Batch, Objective
from .optimiser import make_optimiser
from .plan import OLDER_RUNS, Plan
from .processes import Processes
from .reading import Reading
from .records import Progress, Records

ObjectIds = Callable[[Sequence[int]], Sequence[str]]
"""From catalogue rows to the ids of their objects."""


class Steps:
    """The batches of this process that are still to come. Lightning fetches none ahead, since it knows their number."""

    def __init__(
        self, batches_from: Callable[[int], Iterable[Batch]], start: int, plan: Plan, processes: Processes
    ) -> None:
        self.batches_from = batches_from
        self.start = start
        self.plan = plan
        self.here = plan.accumulate // processes.count

    def __len__(self) -> int:
        return (self.plan.steps - self.start) * self.here

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.batches_from(self.start * self.plan.accumulate))
        for place in range(len(self)):
            try:
                yield next(batches)
            except StopIteration:
                step = self.start + place // self.here
                raise RuntimeError(f"the batches ended before step {step} of {self.plan.steps}") from None


@dataclass(frozen=True)
class Told:
    """Loss and metrics of a batch, and whose they are."""

    step: int
    batch: Batch
    reading: Reading


@dataclass(frozen=True)
class Slope:
    """Norm of a step's gradient, and what this process's batches of the step name as their rows."""

    step: int
    rows: list[Any]
    norm: Reading


class TrainingLoop(LightningModule):
    """Optimiser, schedule, average and checkpoints around an objective.

    Attributes
    ----------
    step
        Steps that are done.
    place
        Batches of the next step that this process has done.
    batch
        The one that is being worked on.
    told
        What the last batch told, as long as nobody has looked at it.
    rows
        What the batches of the next step name as theirs, those that this process has begun.
    slope
        The last step's gradient, as long as nobody has looked at it.
    may_wait
        Whether both may be looked at a batch later: neither the objective nor another process looks at the weights in
        between.
    """

    def __init__(
        self,
        objective: Objective,
        plan: Plan,
        folder: Path,
        processes: Processes,
        records: Records,
        progress: Progress | None,
        object_ids: ObjectIds | None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.plan = plan
        self.checkpoint = folder / "checkpoint.pt"
        self.processes = processes
        self.records = records
        self.report = progress
        self.object_ids = object_ids
        self.stop = StopSignal()
        self.step = 0
        self.place = 0
        self.batch: Batch | None = None
        self.told: Told | None = None
        self.rows: list[Any] = []
        self.slope: Slope | None = None
        self.may_wait = processes.count == 1 and type(objective).on_step_end is Objective.on_step_end
        self.smooth_loss: float | None = None
        self.average: WeightAverage | None = None
        self.optimiser_state: dict[str, Any] | None = None
        self.average_state: dict[str, Any] | None = None

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        state = load_checkpoint(self.checkpoint, self.plan.identity(), OLDER_RUNS)
        if state is None:
            self.records.begin()
            return
        self.step = state.step
        self.smooth_loss = state.smooth_loss
        self.optimiser_state = state.optimizer
        self.average_state = state.average
        try:
            self.objective.load_state_dict(state.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.checkpoint} is of another network; delete it to train this one from the start"
            ) from error
        self.objective.load_extra_state(state.extra)
        self.records.resume(state.history, state.window)

    def settle(self) -> None:
        """The end: the weights are the moving average, if there is one."""
        if self.average is None:
            self._begin_average()  # a finished run was only looked at again
        if self.average is not None:
            self.average.settle()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the objective's groups, in the state of the checkpoint."""
        self.optimizer = make_optimiser(self.objective, self.plan, self.optimiser_state)
        self.optimiser_state = None
        return self.optimizer

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm, as Lightning does it, which refuses it to every fused optimiser, since some scale gradients.

        A norm that is no number ends the training before the optimiser moves a weight; where it may wait as losses do,
        before anything is written.
        """
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, gradient_clip_val or math.inf)
        self.slope = Slope(self.step, self.rows, Reading({"norm": norm}))
        self.rows = []
        if self.slope.norm.at_once or not self.may_wait:
            self._take_in()

    def on_train_start(self) -> None:
        """Begin the average where the weights are, and listen to SIGTERM in Lightning's place."""
        self._begin_average()
        self.stop.listen()

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Set the rate of this step, and the seed of draws that take no generator (stochastic depth)."""
        self.batch = batch
        self.rows.append(batch.get("rows"))
        torch.manual_seed(self._seed())
        rate = rate_at(self.step, self.plan.steps, self.plan.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * group["scale"] * rate

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The objective's loss. Whether it is a number is looked at now, or where it may wait and has to be waited for
        with the next batch, or before anything is written."""
        generator = torch.Generator(self.device).manual_seed(self._seed())
        loss, metrics = self.objective.training_step_at(self.step, batch, generator)
        self._take_in()
        self.told = Told(self.step, batch, Reading({**metrics, "loss": loss.detach()}))
        if self.told.reading.at_once or not self.may_wait:
            self._take_in()
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Count the batch, and with the last of a step the step."""
        self.batch = None
        self.place += 1
        if self.place * self.processes.count == self.plan.accumulate:
            self.place = 0
            self._end_step()

    def save(self) -> None:
        """Write the checkpoint, then hand on the points that it covers; all processes must call it."""
        self._take_in()
        window = self.records.whole_window()
        if self.processes.leads:
            state = Checkpoint(
                step=self.step,
                weights=self.objective.state_dict(),
                optimizer=self.optimizer.state_dict(),
                extra=self.objective.extra_state(),
                history=self.records.history,
                window=window,
                smooth_loss=self.smooth_loss,
                average=None if self.average is None else self.average.state_dict(),
            )
            save_checkpoint(self.checkpoint, state, self.plan.identity())
        self.records.hand_on()

    def _end_step(self) -> None:
        step = self.step
        self.step += 1
        if self.average is not None:
            self.average.update()
        last = self.step == self.plan.steps
        point: dict[str, float] = {}
        if self.step % self.plan.record_steps == 0 or last:
            self._take_in()
            rate = rate_at(step, self.plan.steps, self.plan.warmup)
            point = {**self.records.close_window(), "learning_rate": self.plan.learning_rate * rate}
        with nullcontext() if self.average is None else self.average.in_place():
            point.update(self.objective.on_step_end(step) or {})
        if point:
            self.records.history.append({"step": step, **point})
        saved = self.step % self.plan.checkpoint_steps == 0 or last
        if saved:
            self.save()
        if self.report is not None and self.processes.leads:
            note = "" if self.smooth_loss is None else f"loss {self.smooth_loss:.4f}"
            self.report(self.step, self.plan.steps, note)
        if not last and self.processes.agree(self.stop.asked, self.device):
            if not saved:
                self.save()
            raise Interrupted(f"asked to stop; saved after step {self.step} of {self.plan.steps} in {self.checkpoint}")

    def _take_in(self) -> None:
        """Take in what the last batch told, and look at the last step's gradient, if that has not been done.

        Raises
        ------
        DivergedError
            If the loss or the norm of the gradient is not finite.
        """
        told, self.told = self.told, None
        slope, self.slope = self.slope, None
        if told is not None:
            self._take_in_loss(told)
        if slope is not None:
            self._look_at(slope)

    def _take_in_loss(self, told: Told) -> None:
        values = told.reading.read()
        loss = values["loss"]
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {told.step}, {self._named([told.batch.get('rows')])}; look at these "
                "stamps, or lower the learning rate. The last checkpoint is kept"
            )
        self.records.window.append(values)
        self.smooth_loss = loss if self.smooth_loss is None else 0.95 * self.smooth_loss + 0.05 * loss

    def _look_at(self, slope: Slope) -> None:
        norm = slope.norm.read()["norm"]
        if math.isfinite(norm):
            return
        # the gradient is the mean over all processes, so that all come here together
        rows = [each for process in self.processes.gathered(slope.rows) for each in process]
        raise DivergedError(
            f"the norm of the gradient is {norm} at step {slope.step}, {self._named(rows)}, though the loss is finite; "
            "look at these stamps, or lower the learning rate. The last checkpoint is kept"
        )

    def _begin_average(self) -> None:
        if self.plan.ema_decay:
            trained = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
            self.average = WeightAverage(trained, self.plan.ema_decay)
            if self.average_state is not None:
                self.average.load_state_dict(self.average_state)
                self.average_state = None

    def _seed(self) -> int:
        """Seed of the batch that is being worked on: a function of the run's seed and the batch's number."""
        place = self.place * self.processes.count + self.processes.rank
        return step_seed(self.plan.seed, self.step * self.plan.accumulate + place)

    def _named(self, rows: Sequence[Any]) -> str:
        """Objects of batches by their ids, or by their rows where nobody knows the ids."""
        numbers = [number for each in rows if isinstance(each, Tensor) for number in each.tolist()]
        if not numbers:
            return "in a batch that does not name its rows"
        if self.object_ids is None:
            return f"rows {numbers}"
        return f"objects {', '.join(dict.fromkeys(self.object_ids(numbers)))}"
