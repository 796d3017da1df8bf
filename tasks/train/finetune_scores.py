"""How well each task does: on validation stamps while it trains, on test stamps once at the end, source by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.calibration import (
    SIGMAS_OF_95,
    coverage,
    expected_calibration_error,
    sigma_scale,
    temperature,
)
from galaxy_models.heads import ClassificationHead, ParameterHead, VotesHead
from galaxy_models.inputs import InputSpec
from galaxy_models.masking import fill_hidden, masked_errors, random_masks
from galaxy_models.metrics import (
    accuracy,
    auc,
    balanced_accuracy,
    bootstrap_interval,
    macro_auc,
    mean_interval,
    psnr,
    ssim,
)
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork
from galaxy_models.seen import Seen
from galaxy_models.votes import concentrations, fractions_with_spread
from tasks.train.degraded_pairs import DegradedPairs
from tasks.train.label_tables import LabelledStamps, Targets
from tasks.train.working_copy import WorkingCopy

RARE = 20
"""A class with fewer test stamps says little: accuracy and AUC are given without such classes as well."""

EVALUATION_SEED = 20
"""Seed of masks, degradations and bootstrap draws of every evaluation: the same for every model."""

BATCH = 64

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Answer:
    """What one head says about n stamps, not calibrated.

    Attributes
    ----------
    logits
        `classes`: (n, K).
    value, sigma
        `votes`: question to (n, A); `values`: under the key "" (n, P).
    """

    logits: Floats | None = None
    value: dict[str, Floats] | None = None
    sigma: dict[str, Floats] | None = None


@dataclass(frozen=True)
class Scorer:
    """Runs a network over rows of the working copy, without gradients."""

    inputs: InputSpec
    units: str
    copy: WorkingCopy
    pairs: DegradedPairs
    mask_patch: int
    mask_fraction: float

    def see(self, network: MultiTaskNetwork, rows: NDArray[np.int64]) -> Seen:
        """What the network sees of the n stamps as they are; n is at least one."""
        device = next(network.parameters()).device
        parts = []
        for start in range(0, len(rows), BATCH):
            images = self.copy.read(rows[start : start + BATCH]).to(device)
            fluxes = self.inputs.fluxes(images, self.units)
            parts.append(network.see(self.inputs.to_network(images, self.units), fluxes))
        return Seen.together(parts)

    def answer(
        self,
        network: MultiTaskNetwork,
        table: LabelledStamps,
        positions: NDArray[np.int64],
        seen: Seen | None = None,
    ) -> Answer:
        """What the table's head says about the table's stamps at `positions`; `seen` is of these, if known."""
        head = network.heads[table.scheme.table]
        seen = self.see(network, table.rows[positions]) if seen is None else seen
        if isinstance(head, ClassificationHead):
            return Answer(logits=head(seen.pooled).float().cpu().numpy())
        if isinstance(head, VotesHead):
            answers = head(seen.pooled)
            spread = {name: fractions_with_spread(concentrations(raw.float())) for name, raw in answers.items()}
            return Answer(
                value={name: fraction.cpu().numpy() for name, (fraction, _) in spread.items()},
                sigma={name: sigma.cpu().numpy() for name, (_, sigma) in spread.items()},
            )
        assert isinstance(head, ParameterHead)
        value, sigma = head.predict(seen)
        return Answer(value={"": value.cpu().numpy()}, sigma={"": sigma.cpu().numpy()})

    def restored(self, network: MultiTaskNetwork, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Degraded, restored and original, each (n, 3, h, w) on the CPU, as `pairs` has them."""
        device = next(network.parameters()).device
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(rows), BATCH):
            piece = rows[start : start + BATCH]
            generator = torch.Generator(device).manual_seed(EVALUATION_SEED + start)
            images = self.copy.read(piece).to(device)
            pair = self.pairs.make(images, torch.from_numpy(piece), generator)
            restored = self.pairs.restored(network, pair)
            parts.append((pair.degraded.cpu(), restored.cpu(), pair.original.cpu()))
        degraded, restored, original = (torch.cat(column) for column in zip(*parts, strict=True))
        return degraded, restored, original

    def rebuilt(self, network: MultiTaskNetwork, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Original, reconstruction with the seen pixels left as they are, and the (n, 1, h, w) mask, on the CPU."""
        device = next(network.parameters()).device
        parts: list[tuple[Tensor, ...]] = []
        for start in range(0, len(rows), BATCH):
            generator = torch.Generator(device).manual_seed(EVALUATION_SEED + start)
            rgb = self.inputs.to_network(self.copy.read(rows[start : start + BATCH]).to(device), self.units)
            hidden = self._masks(rgb, generator)
            filled = fill_hidden(rgb, network.reconstruct(rgb, hidden).float(), hidden)
            parts.append((rgb.cpu(), filled.cpu(), hidden.cpu()))
        original, filled, hidden = (torch.cat(column) for column in zip(*parts, strict=True))
        return original, filled, hidden

    def _masks(self, rgb: Tensor, generator: torch.Generator) -> Tensor:
        height, width = rgb.shape[-2:]
        return random_masks(len(rgb), height, width, self.mask_patch, self.mask_fraction, generator)


def validation_scores(
    scorer: Scorer,
    network: MultiTaskNetwork,
    tables: Sequence[tuple[LabelledStamps, NDArray[np.int64]]],
    image_rows: NDArray[np.int64],
) -> dict[str, float]:
    """A score for each task, for the shares: 0 is the answer that needs no network, 1 a perfect one.

    Classification: mean over its tables, for classes the balanced accuracy with chance at 0, for votes the share of
    the variance that is explained. Parameters: that share, mean over parameters. Restoration: the share of the degraded
    images' error that is gone. Reconstruction: that of the absolute error which filling holes with the mean colour has.
    """
    scores: dict[str, list[float]] = {}
    asked = [(table, positions) for table, positions in tables if len(positions)]
    if asked:  # tables of a source share most of their stamps, and each is encoded once
        rows = np.unique(np.concatenate([table.rows[positions] for table, positions in asked]))
        seen = scorer.see(network, rows)
    for table, positions in asked:
        own = seen[torch.from_numpy(np.searchsorted(rows, table.rows[positions]))]
        answer = scorer.answer(network, table, positions, own)
        targets = {name: values[positions] for name, values in table.targets.items()}
        scores.setdefault(table.task, []).append(_score(table.scheme, answer, targets))
    result = {task: float(np.mean(values)) for task, values in scores.items()}
    if len(image_rows):
        left = scorer.pairs.error_left(*scorer.restored(network, image_rows))
        result["restoration"] = min(max(1 - left, 0.0), 1.0)
        whole, filled, hidden = scorer.rebuilt(network, image_rows)
        plain = masked_errors(_mean_of_seen(whole, hidden), whole, hidden).mean()
        result["reconstruction"] = _removed(masked_errors(filled, whole, hidden).mean(), plain)
    return result


def calibrate(scheme: HeadScheme, answer: Answer, targets: Targets) -> dict[str, Any]:
    """The card's calibration of one head, from validation stamps."""
    if answer.logits is not None:
        return {"temperature": temperature(answer.logits, targets["code"].astype(np.int64))}
    return {"sigma_scale": {name: sigma_scale(*of) for name, of in by_name(scheme, answer, targets).items()}}


def uncalibrated(scheme: HeadScheme) -> dict[str, Any]:
    """The card's calibration of a head that has no validation stamps: everything as the network says it."""
    if scheme.kind == "classes":
        return {"temperature": 1.0}
    return {"sigma_scale": dict.fromkeys(scheme.names, 1.0)}


def by_name(scheme: HeadScheme, answer: Answer, targets: Targets) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Truth, value and sigma of each question, (n, A), or of each parameter, (n,)."""
    assert answer.value is not None and answer.sigma is not None
    if scheme.kind == "votes":
        return {name: (targets[name], answer.value[name], answer.sigma[name]) for name in scheme.names}
    tables = targets["value"], answer.value[""], answer.sigma[""]
    return {
        name: (tables[0][:, place], tables[1][:, place], tables[2][:, place]) for place, name in enumerate(scheme.names)
    }


def class_metrics(table: str, probabilities: Floats, codes: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro AUC with 95 % bootstrap intervals, and the calibration error."""
    guess = probabilities.argmax(axis=1)
    metrics = {
        f"{table}.accuracy": accuracy(codes, guess),
        f"{table}.balanced_accuracy": balanced_accuracy(codes, guess),
        f"{table}.macro_auc": macro_auc(codes, probabilities),
        f"{table}.calibration_error": expected_calibration_error(probabilities, codes),
        f"{table}.test_stamps": float(len(codes)),
    }
    for name, statistic, predicted in (
        ("accuracy", accuracy, guess),
        ("balanced_accuracy", balanced_accuracy, guess),
        ("macro_auc", macro_auc, probabilities),
    ):
        low, high = bootstrap_interval(statistic, codes, predicted, seed=EVALUATION_SEED, draws=500)
        metrics |= {f"{table}.{name}.low": low, f"{table}.{name}.high": high}
    counts = np.bincount(codes, minlength=probabilities.shape[1])
    frequent = np.flatnonzero(counts >= RARE)
    if len(frequent) >= 2 and (counts > 0).sum() > len(frequent):
        kept = np.isin(codes, frequent)
        metrics[f"{table}.accuracy.without_rare"] = accuracy(codes[kept], guess[kept])
        areas = [auc(codes[kept] == code, probabilities[kept, code]) for code in frequent]
        metrics[f"{table}.macro_auc.without_rare"] = float(np.mean(areas))
    return metrics


def vote_metrics(
    scheme: HeadScheme, answer: Answer, targets: Targets, train: Targets, scales: Mapping[str, float]
) -> dict[str, float]:
    """Root mean square error of the fractions by question, beside that of always saying the train mean, and coverage.

    `coverage` is the share of the fractions within one sigma, 0.683 for an honest Gaussian, `coverage_95` that in the
    interval which should have 95 %; `coverage.uncalibrated` is with the network's own sigmas.
    """
    metrics: dict[str, float] = {}
    errors, of_means, within = [], [], []
    for question, (truth, value, raw) in by_name(scheme, answer, targets).items():
        sigma = raw * scales[question]
        if not np.isfinite(truth).any() or not np.isfinite(train[question]).any():
            continue
        errors.append(_rms(truth - value))
        of_means.append(_rms(truth - np.nanmean(train[question], axis=0)))
        within.append(
            {
                "coverage": coverage(truth, value, sigma),
                "coverage_95": coverage(truth, value, sigma, SIGMAS_OF_95),
                "coverage.uncalibrated": coverage(truth, value, raw),
            }
        )
        metrics[f"{scheme.table}.{question}.rmse"] = errors[-1]
        metrics[f"{scheme.table}.{question}.rmse_of_mean"] = of_means[-1]
    if errors:
        metrics[f"{scheme.table}.rmse"] = float(np.mean(errors))
        metrics[f"{scheme.table}.rmse_of_mean"] = float(np.mean(of_means))
        metrics |= {f"{scheme.table}.{name}": float(np.mean([each[name] for each in within])) for name in within[0]}
    return metrics


def parameter_metrics(
    scheme: HeadScheme, answer: Answer, targets: Targets, train: Targets, scales: Mapping[str, float]
) -> dict[str, float]:
    """Bias, scatter and error of each parameter in its units, the error of saying the train mean, and the coverage.

    For the three of coverage see `vote_metrics`.
    """
    metrics = {}
    for place, (name, (truth, value, raw)) in enumerate(by_name(scheme, answer, targets).items()):
        sigma = raw * scales[name]
        residual = (value - truth)[np.isfinite(truth)]
        if not len(residual):
            continue
        prefix = f"{scheme.table}.{name}"
        metrics[f"{prefix}.bias"] = float(residual.mean())
        metrics[f"{prefix}.scatter"] = float(residual.std())
        metrics[f"{prefix}.rmse"] = _rms(residual)
        metrics[f"{prefix}.rmse_of_mean"] = _rms(truth - np.nanmean(train["value"][:, place]))
        metrics[f"{prefix}.coverage"] = coverage(truth, value, sigma)
        metrics[f"{prefix}.coverage_95"] = coverage(truth, value, sigma, SIGMAS_OF_95)
        metrics[f"{prefix}.coverage.uncalibrated"] = coverage(truth, value, raw)
    return metrics


def image_metrics(
    degraded: Tensor, restored: Tensor, original: Tensor, filled: Tensor, hidden: Tensor, whole: Tensor
) -> dict[str, float]:
    """Restoration against the degraded input, and the error on hidden pixels, of one source.

    `reconstruction.l1_of_mean` is what filling the holes with the mean colour of what is seen would cost.
    """
    before, after = psnr(degraded, original), psnr(restored, original)
    similar_before, similar_after = ssim(degraded, original), ssim(restored, original)
    gain = (after - before).numpy().astype(np.float64)
    low, high = mean_interval(gain, seed=EVALUATION_SEED, draws=500)
    return {
        "restoration.psnr_degraded_db": float(before.mean()),
        "restoration.psnr_db": float(after.mean()),
        "restoration.psnr_gain_db": float(gain.mean()),
        "restoration.psnr_gain_db.low": low,
        "restoration.psnr_gain_db.high": high,
        "restoration.ssim_degraded": float(similar_before.mean()),
        "restoration.ssim": float(similar_after.mean()),
        "reconstruction.l1": float(masked_errors(filled, whole, hidden).mean()),
        "reconstruction.l1_of_mean": float(masked_errors(_mean_of_seen(whole, hidden), whole, hidden).mean()),
        "reconstruction.ssim": float(ssim(filled, whole).mean()),
    }


def _mean_of_seen(whole: Tensor, hidden: Tensor) -> Tensor:
    """Each image's mean colour over the pixels that are not hidden, as (n, 3, h, w)."""
    seen = ~hidden
    mean = (whole * seen).sum(dim=(2, 3), keepdim=True) / seen.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    return mean.expand_as(whole)


def _removed(error: Tensor, trivial: Tensor) -> float:
    return float((1 - error / trivial.clamp_min(1e-6)).clamp(0, 1))


def _score(scheme: HeadScheme, answer: Answer, targets: Targets) -> float:
    if answer.logits is not None:
        chance = 1 / len(scheme.names)
        found = balanced_accuracy(targets["code"], answer.logits.argmax(axis=1))
        return max(0.0, (found - chance) / (1 - chance))
    assert answer.value is not None
    truth = [targets[name] for name in scheme.names] if scheme.kind == "votes" else [targets["value"]]
    value = [answer.value[name] for name in scheme.names] if scheme.kind == "votes" else [answer.value[""]]
    return float(np.mean([_explained(t, v) for t, v in zip(truth, value, strict=True)]))


def _explained(truth: Floats, value: Floats) -> float:
    """Share of each column's variance that is explained, at least 0; mean over the columns that vary."""
    known = np.isfinite(truth)
    shares = []
    for column in range(truth.shape[1]):
        true = truth[known[:, column], column].astype(np.float64)
        if len(true) > 1 and true.var() > 0:
            error = np.mean((true - value[known[:, column], column]) ** 2)
            shares.append(max(0.0, 1 - error / true.var()))
    return float(np.mean(shares)) if shares else 0.0


def _rms(residual: Floats) -> float:
    return float(np.sqrt(np.nanmean(np.square(residual, dtype=np.float64))))
