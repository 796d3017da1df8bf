"""Collects what the pre-trained network learnt, and reads the stamps that the modules `report_*` ask it about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.inputs import InputSpec
from galaxy_models.training import History
from infra.errors import GalaxyError
from infra.profile import PretrainSettings
from tasks.figures import save_curves
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset
from tasks.train.common import Rows, evenly, stamps_in_order, write_evaluation

BATCH = 128
MOST_STAMPS = 512
"""Validation stamps per source."""

MOST_LABELLED = 20_000
SHOWN_STAMPS = 8
"""In a row of a sheet."""

LOSSES = {
    "masked": "L1 on hidden pixels / spread",
    "views": "NT-Xent of two views",
    "measures": "smooth L1 of standardised measures",
    "answers": "relative entropy of answers",
}
"""What the loss is, by pretext; of several it is the weighted sum."""

Vectors = NDArray[np.float32]


class PretrainReport:
    """Collects metrics and figures; every metric's name begins with its source or label table."""

    def __init__(
        self,
        prepared: PreparedDataset,
        inputs: InputSpec,
        settings: PretrainSettings,
        survey: SurveyDefinition,
        folder: Path,
        device: str,
    ) -> None:
        self.prepared = prepared
        self.inputs = inputs
        self.settings = settings
        self.survey = survey
        self.folder = folder
        self.device = device
        self.metrics: dict[str, float] = {}
        self.figures: list[Path] = []
        self.headline = ""
        self._evaluated: tuple[pd.DataFrame, bool] | None = None

    def judge_by(self, headline: str, frame: pd.DataFrame, *, higher_is_better: bool, instead: bool = False) -> None:
        """Let a metric with the scores it is the mean of be what versions are compared by, if it is the first.

        Parameters
        ----------
        frame
            Columns `object_id`, `label`, `score`, and others that say what was asked.
        instead
            Of what is judged by so far.
        """
        if self._evaluated is None or instead:
            self.headline, self._evaluated = headline, (frame, higher_is_better)

    def loss_curve(self, history: History) -> None:
        """The loss over the steps."""
        if history:
            steps = [point["step"] for point in history]
            losses = [point["loss"] for point in history]
            self.keep(
                save_curves(
                    self.folder / "loss.png",
                    {"loss": (steps, losses)},
                    "step",
                    " + ".join(LOSSES[name] for name in self.settings.pretexts),
                    "Pre-training",
                )
            )

    def evaluation(self, folder: Path) -> dict[str, Any]:
        """Keep the evaluation set of the headline metric."""
        if self._evaluated is None:
            raise GalaxyError(
                f"survey {self.survey.name}: no usable validation stamp and no label table for `neighbours`, so the "
                "model cannot be measured; raise `validation_fraction` or add objects"
            )
        frame, higher_is_better = self._evaluated
        columns = tuple(name for name in frame.columns if name != "score")
        return write_evaluation(folder, frame, self.headline, higher_is_better=higher_is_better, digest_columns=columns)

    def validation(self) -> Iterator[tuple[str, Rows]]:
        """Each source that has usable validation stamps, with at most `MOST_STAMPS` of them."""
        for source in self.survey.sources:
            rows = evenly(self.prepared.rows("validation", source.name), MOST_STAMPS)
            if len(rows):
                yield source.name, rows

    def labelled(self, codes: NDArray[np.int64], split: str, source: str) -> Rows:
        """Rows of a split and a source whose code is not negative, at most `MOST_LABELLED`."""
        rows = self.prepared.rows(split, source)
        return evenly(rows[codes[rows] >= 0], MOST_LABELLED)

    def object_ids(self, rows: Rows) -> NDArray[np.object_]:
        """(n,) of the stamps."""
        return self.prepared.table["object_id"].to_numpy(object)[rows]

    def pictures(self, rows: Rows) -> Iterator[Tensor]:
        """RGB (n, 3, h, w) as the network takes it, batch by batch."""
        for stamps in stamps_in_order(self.prepared, rows, BATCH):
            yield self.inputs.to_network(stamps.to(self.device), self.prepared.dataset.units)

    def picture(self, row: int) -> Tensor:
        """(1, 3, h, w)."""
        return next(self.pictures(np.array([row])))

    def vectors(self, rows: Rows, embed: Callable[[Tensor], Tensor]) -> Vectors:
        """(n, D) that `embed` makes of RGB (n, 3, h, w)."""
        return np.concatenate([embed(rgb).float().cpu().numpy() for rgb in self.pictures(rows)])

    def keep(self, path: Path) -> None:
        """Have a figure among the results."""
        self.figures.append(path)
