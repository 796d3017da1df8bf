"""How well GalaxAlign classifies and searches, one label table at a time; no source is pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from galaxy_models.align import GalaxAlign
from galaxy_models.calibration import temperature
from galaxy_models.inputs import InputSpec
from galaxy_models.metrics import accuracy, average_precision, bootstrap_interval, macro_auc, mean_interval
from galaxy_models.prompts import class_prompts, held_out_prompts
from tasks.train.align_tables import ClassTable
from tasks.train.common import Rows, evenly
from tasks.train.working_copy import WorkingCopy

EVALUATION_SEED = 30
"""Seed of the bootstrap and of chance rankings: the same for every model."""

NEIGHBOURS = 10
MOST_COMPARED = 5000
"""Stamps that are compared each with each: time and memory grow with their square."""
BATCH = 64
TEXT_SHARES = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class Embedder:
    """Runs the image tower over rows of the working copy."""

    network: GalaxAlign
    inputs: InputSpec
    units: str
    copy: WorkingCopy

    @torch.inference_mode()
    def __call__(self, rows: Rows) -> Tensor:
        """(n, D) unit vectors, on the CPU."""
        device = self.network.text_prototypes.device
        parts = [torch.zeros(0, self.network.embedding_size)]
        for start in range(0, len(rows), BATCH):
            images = self.copy.read(rows[start : start + BATCH]).to(device)
            parts.append(self.network.encode_images(self.inputs.to_network(images, self.units)).cpu())
        return torch.cat(parts)


def choose_mixture(network: GalaxAlign, table: ClassTable, embedding: Tensor) -> dict[str, float]:
    """Set a table's share of the text and its sharpness from validation stamps.

    Of eleven shares from 0 (symbol alone) to 1 (text alone) the one with the smallest log loss is taken, each with
    the temperature that fits it best.

    Parameters
    ----------
    embedding
        (n, D) of the table's validation stamps. With fewer than 20 of them, or none, half and half stays.

    Returns
    -------
    dict
        `text_share` and `sharpness`, which are in the network as well.
    """
    index = list(network.tables).index(table.name)
    codes = table.codes[table.places("validation")]
    scale = float(network.scale().detach())
    best = (np.inf, 0.5, scale)
    if len(codes) >= 20:
        text, symbol = (scores.cpu().numpy() for scores in network.modality_scores(embedding, table.name))
        for share in TEXT_SHARES:
            logits = scale * (share * text + (1 - share) * symbol)
            divisor = temperature(logits, codes)
            loss = float(functional.cross_entropy(torch.from_numpy(logits / divisor), torch.from_numpy(codes)))
            best = min(best, (loss, float(share), scale / divisor))
    network.text_share[index], network.sharpness[index] = best[1], best[2]
    return {"text_share": best[1], "sharpness": best[2]}


def classification_metrics(network: GalaxAlign, table: ClassTable, embedding: Tensor) -> dict[str, float]:
    """Test figures of a trained table: by both prototypes, by words alone, by symbols alone, by words never trained on.

    Parameters
    ----------
    embedding
        (n, D) of the table's test stamps.
    """
    codes = table.codes[table.places("test")]
    probabilities = network.class_probabilities(embedding, table.name).numpy()
    guess = probabilities.argmax(axis=1)
    text, symbol = (scores.numpy() for scores in network.modality_scores(embedding, table.name))
    unseen = (embedding @ unseen_prototypes(network, table).T).numpy()
    metrics = {
        "accuracy": accuracy(codes, guess),
        "macro_f1": macro_f1(codes, guess),
        "macro_auc": macro_auc(codes, probabilities),
        "text_accuracy": accuracy(codes, text.argmax(axis=1)),
        "symbol_accuracy": accuracy(codes, symbol.argmax(axis=1)),
        "unseen_text_accuracy": accuracy(codes, unseen.argmax(axis=1)),
        "test_stamps": float(len(codes)),
    }
    for name, statistic, column in (
        ("accuracy", accuracy, guess),
        ("macro_f1", macro_f1, guess),
        ("macro_auc", macro_auc, probabilities),
    ):
        low, high = bootstrap_interval(statistic, codes, column, seed=EVALUATION_SEED, draws=500)
        metrics |= {f"{name}.low": low, f"{name}.high": high}
    return _named(table, metrics)


def similarity_metrics(table: ClassTable, embedding: Tensor) -> dict[str, float]:
    """Search by image among the table's test stamps: does a galaxy find others of its class?

    Every stamp, of at most `MOST_COMPARED`, is the query once and never finds itself. Mean average precision over the
    whole ranking, and the precision of the first ten, beside what a random order gives.
    """
    chosen = evenly(np.arange(len(embedding)), MOST_COMPARED)
    codes, embedding = table.codes[table.places("test")][chosen], embedding[torch.from_numpy(chosen)]
    likeness = (embedding @ embedding.T).numpy()
    precisions, first, chances = [], [], []
    for query in range(len(codes)):
        others = np.delete(np.arange(len(codes)), query)
        same = codes[others] == codes[query]
        if same.any():
            order = np.argsort(-likeness[query, others], kind="stable")
            precisions.append(average_precision(same, likeness[query, others]))
            first.append(same[order[:NEIGHBOURS]].mean())
            chances.append(same.mean())
    if not first:
        return {}
    low, high = mean_interval(first, seed=EVALUATION_SEED, draws=500)
    precision = f"similarity_precision_at_{NEIGHBOURS}"
    metrics = {
        "similarity_map": float(np.mean(precisions)),
        precision: float(np.mean(first)),
        f"{precision}.low": low,
        f"{precision}.high": high,
        "similarity_chance": float(np.mean(chances)),
    }
    return _named(table, metrics)


def retrieval_metrics(network: GalaxAlign, table: ClassTable, embedding: Tensor) -> dict[str, float]:
    """Search by symbol and by words among all stamps of a table that taught nothing.

    Parameters
    ----------
    embedding
        (n, D) of all stamps of the table.

    Returns
    -------
    dict
        Mean average precision over the classes that occur, by symbol and by text, its value for random orders, and how
        many stamps and classes that is.
    """
    present = np.unique(table.codes)
    symbols, texts = query_vectors(network, table)
    by_symbol, by_text = (embedding @ symbols.T).numpy(), (embedding @ texts.T).numpy()
    generator = np.random.default_rng(EVALUATION_SEED)
    noise = generator.random((20, len(table.codes)))
    found = {
        "symbol_retrieval_map": [average_precision(table.codes == code, by_symbol[:, code]) for code in present],
        "text_retrieval_map": [average_precision(table.codes == code, by_text[:, code]) for code in present],
        "retrieval_chance_map": [average_precision(table.codes == code, row) for code in present for row in noise],
    }
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    return _named(table, {**metrics, "stamps": float(len(table.codes)), "classes": float(len(present))})


@torch.inference_mode()
def query_vectors(network: GalaxAlign, table: ClassTable) -> tuple[Tensor, Tensor]:
    """Unit vectors (K, D) of the table's classes by symbol and by text, on the CPU."""
    texts = [network.encode_texts(class_prompts(meaning)).mean(dim=0) for meaning in table.meanings]
    return network.encode_symbols(table.meanings).cpu(), functional.normalize(torch.stack(texts), dim=1).cpu()


@torch.inference_mode()
def unseen_prototypes(network: GalaxAlign, table: ClassTable) -> Tensor:
    """Unit vectors (K, D) of sentences that training never saw, on the CPU."""
    texts = [network.encode_texts(held_out_prompts(meaning)).mean(dim=0) for meaning in table.meanings]
    return functional.normalize(torch.stack(texts), dim=1).cpu()


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the true classes that occur of the harmonic mean of precision and recall."""
    true, guess = np.asarray(truth), np.asarray(predicted)
    scores = []
    for code in np.unique(true):
        both = ((true == code) & (guess == code)).sum()
        scores.append(2 * both / ((true == code).sum() + (guess == code).sum()))
    return float(np.mean(scores)) if scores else float("nan")


def nearest_others(embedding: Tensor, query: int, count: int) -> NDArray[np.int64]:
    """Places of the `count` stamps nearest to stamp `query`, itself left out."""
    likeness = (embedding @ embedding[query]).numpy().copy()
    likeness[query] = -np.inf
    return np.argsort(-likeness, kind="stable")[: min(count, len(likeness) - 1)]


def _named(table: ClassTable, metrics: dict[str, float]) -> dict[str, float]:
    """The table's name in front; what could not be had is left out."""
    return {f"{table.name}.{name}": float(value) for name, value in metrics.items() if np.isfinite(value)}
