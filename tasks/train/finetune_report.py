"""The end of fine-tuning: metrics on test stamps, and the figures that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from galaxy_models.calibration import expected_calibration_error, pulls
from galaxy_models.metrics import confusion_matrix
from galaxy_models.multitask import FLUX, SCALE_OF_PICTURES, MultiTaskNetwork
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.training import History
from tasks.figures import save_confusion
from tasks.train.finetune_evaluation import class_evaluation, error_evaluation, headline_of
from tasks.train.finetune_figures import (
    SHOWN,
    save_coverage,
    save_deficits,
    save_parameters,
    save_rebuilt,
    save_reliability,
    save_restored,
    save_shares,
    save_validation,
)
from tasks.train.finetune_scores import (
    Answer,
    Scorer,
    by_name,
    class_metrics,
    image_metrics,
    parameter_metrics,
    vote_metrics,
)
from tasks.train.label_tables import LabelledStamps, Targets

FEWEST_IMAGES = 8
"""A source with fewer test stamps has no restoration and reconstruction metrics."""


class Report:
    """Collects metrics and figures.

    Attributes
    ----------
    metrics
        Name, which carries table or source, to number. Numbers that could not be had are left out.
    figures
        Files, in the order they were made.
    answers
        Class table to (n, K) calibrated probabilities and (n,) true codes of its test stamps.
    evaluations
        Each table to what the gate judges of its test stamps, in their order: `label` and `score`, and `truth.<name>`.
    """

    def __init__(
        self,
        folder: Path,
        scorer: Scorer,
        network: MultiTaskNetwork,
        tables: Sequence[LabelledStamps],
        tasks: Sequence[str],
    ) -> None:
        self.folder = folder
        self.scorer = scorer
        self.network = network
        self.tables = tuple(tables)
        self.tasks = tuple(tasks)
        self.metrics: dict[str, float] = {}
        self.figures: list[Path] = []
        self.answers: dict[str, tuple[NDArray[np.floating[Any]], NDArray[np.int64]]] = {}
        self.evaluations: dict[str, pd.DataFrame] = {}
        self._uncalibrated: dict[str, NDArray[np.floating[Any]]] = {}

    def heads(self) -> None:
        """Every label table's head on the table's test stamps."""
        for table in self.tables:
            test, train = table.positions("test"), table.positions("train")
            if not len(test):
                continue
            targets = {name: values[test] for name, values in table.targets.items()}
            taught = {name: values[train] for name, values in table.targets.items()}
            seen = self.scorer.see(self.network, table.rows[test])
            answer = self.scorer.answer(self.network, table, test, seen)
            calibration = self.network.calibration[table.scheme.table]
            if answer.logits is not None:
                name, codes = table.scheme.table, targets["code"].astype(np.int64)
                logits = torch.from_numpy(answer.logits)
                raw = torch.softmax(logits, dim=1).numpy()
                probabilities = torch.softmax(logits / calibration["temperature"], dim=1).numpy()
                self._add(class_metrics(name, probabilities, codes))
                self._add({f"{name}.calibration_error.uncalibrated": expected_calibration_error(raw, codes)})
                self._confusion(table, probabilities, codes)
                self.answers[name], self._uncalibrated[name] = (probabilities, codes), raw
                self.evaluations[name] = class_evaluation(table.scheme, probabilities, codes)
                continue
            self.evaluations[table.scheme.table] = error_evaluation(table.scheme, answer, targets)
            self._add({headline_of(table.scheme): float(self.evaluations[table.scheme.table]["score"].mean())})
            scales = calibration["sigma_scale"]
            if table.scheme.kind == "votes":
                self._add(vote_metrics(table.scheme, answer, targets, taught, scales))
            else:
                self._add(parameter_metrics(table.scheme, answer, targets, taught, scales))
                self._scatter(table, answer, targets, scales)
                if isinstance(self.network.heads[table.scheme.table], PhotometricHead):
                    answer_of_pictures = self.scorer.answer(self.network, table, test, seen.of_pictures())
                    scheme = replace(table.scheme, table=f"{table.scheme.table}.of_pictures")
                    scales_of_pictures = calibration.get(SCALE_OF_PICTURES, dict.fromkeys(scheme.names, 1.0))
                    self._add(parameter_metrics(scheme, answer_of_pictures, targets, taught, scales_of_pictures))
            self._coverage(table, answer, targets, scales)
        if self.answers:
            path = self.folder / "reliability.png"
            self.figures.append(save_reliability(path, self.answers, self._uncalibrated))

    def images(self, catalogue: pd.DataFrame, rows: NDArray[np.int64], first: str) -> None:
        """Restoration and reconstruction, source by source; those of the source `first` go by the short name too."""
        pairs = self.scorer.pairs
        sources = catalogue["source"].to_numpy(dtype=str)[rows]
        for source in sorted(set(sources.tolist())):
            chosen = rows[sources == source]
            if len(chosen) < FEWEST_IMAGES:
                continue
            degraded, restored, original = self.scorer.restored(self.network, chosen)
            whole, filled, hidden = self.scorer.rebuilt(self.network, chosen)
            levels = [pairs.levels(images, original) for images in (degraded, restored, original)]
            metrics = image_metrics(levels[0], levels[1], levels[2], filled, hidden, whole)
            self._add({f"{source}.{name}": value for name, value in metrics.items()})
            if source == first:
                self._add(metrics)
            title = f"Restoration, {source}, {'fluxes' if pairs.space == FLUX else 'display-space'}"
            name = self.folder / f"restored_{source}.png"
            shown = [pairs.picture(images[:SHOWN]) for images in (degraded, restored, original)]
            self.figures.append(save_restored(name, shown[0], shown[1], shown[2], title))
            name = self.folder / f"rebuilt_{source}.png"
            self.figures.append(save_rebuilt(name, whole, filled, hidden, f"Reconstruction, {source}"))

    def curves(self, history: History) -> None:
        """Shares, validation scores and deficits over time, if there was a validation."""
        if any(f"share.{task}" in point for point in history for task in self.tasks):
            self.figures.append(save_shares(self.folder / "shares.png", history, self.tasks))
            self.figures.append(save_validation(self.folder / "validation.png", history, self.tasks))
            self.figures.append(save_deficits(self.folder / "deficits.png", history, self.tasks))

    def _confusion(
        self, table: LabelledStamps, probabilities: NDArray[np.floating[Any]], codes: NDArray[np.int64]
    ) -> None:
        name = table.scheme.table
        matrix = confusion_matrix(codes, probabilities.argmax(axis=1), len(table.scheme.names))
        title = f"{name}: {len(codes)} test stamps, accuracy {self.metrics[f'{name}.accuracy']:.3f}"
        path = self.folder / f"confusion_{name}.png"
        self.figures.append(save_confusion(path, matrix, table.scheme.names, title))

    def _scatter(self, table: LabelledStamps, answer: Answer, targets: Targets, scales: dict[str, float]) -> None:
        assert answer.value is not None and answer.sigma is not None
        names = table.scheme.names
        sigma = answer.sigma[""] * np.array([scales[name] for name in names])
        path = self.folder / f"parameters_{table.scheme.table}.png"
        title = f"{table.scheme.table}: test stamps"
        self.figures.append(save_parameters(path, names, targets["value"], answer.value[""], sigma, title))

    def _coverage(self, table: LabelledStamps, answer: Answer, targets: Targets, scales: dict[str, float]) -> None:
        raw = {name: pulls(*of) for name, of in by_name(table.scheme, answer, targets).items()}
        calibrated = {name: values / scales[name] for name, values in raw.items()}
        path = self.folder / f"coverage_{table.scheme.table}.png"
        title = f"{table.scheme.table}: coverage on test stamps"
        self.figures.append(save_coverage(path, calibrated, raw, title))

    def _add(self, metrics: dict[str, float]) -> None:
        self.metrics |= {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
