"""Pictures of GalaxAlign: the symbols, who is mistaken for whom, and what a search finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from galaxy_models.align import GalaxAlign
from galaxy_models.metrics import confusion_matrix
from galaxy_models.prompts import DESCRIPTIONS
from galaxy_models.symbols import draw_symbol, known_symbols
from tasks.figures import save_confusion, save_grid
from tasks.train.align_scores import Embedder, nearest_others, query_vectors
from tasks.train.align_tables import ClassTable
from tasks.train.common import evenly

SHOWN = 8
"""Stamps of a row."""

MOST_ROWS = 12
SYMBOLS_IN_A_ROW = 10


def save_symbols(path: Path) -> Path:
    """Every symbol with its name."""
    names = known_symbols()
    rows = [names[start : start + SYMBOLS_IN_A_ROW] for start in range(0, len(names), SYMBOLS_IN_A_ROW)]
    pictures = [[1 - draw_symbol(name, 128)[0] for name in row] for row in rows]
    captions = [[name.replace("_", " ") for name in row] for row in rows]
    return save_grid(path, pictures, captions=captions, title="Schematic symbols of the classes")


def save_table_confusion(path: Path, network: GalaxAlign, table: ClassTable, embedding: Tensor) -> Path:
    """Confusion matrix of a trained table's test stamps, whose embeddings are given."""
    codes = table.codes[table.places("test")]
    guess = network.class_probabilities(embedding, table.name).numpy().argmax(axis=1)
    title = f"GalaxAlign, {table.name}: {len(codes)} test stamps, accuracy {(guess == codes).mean():.3f}"
    return save_confusion(path, confusion_matrix(codes, guess, len(table.classes)), table.classes, title)


def save_neighbours(path: Path, embedder: Embedder, table: ClassTable, embedding: Tensor) -> Path:
    """A test stamp of each class, and beside it the test stamps nearest to it."""
    test = table.places("test")
    codes = table.codes[test]
    pictures, titles, captions = [], [], []
    for code in evenly(np.unique(codes), MOST_ROWS):
        query = int(np.flatnonzero(codes == code)[0])
        found = np.concatenate([[query], nearest_others(embedding, query, SHOWN)])
        pictures.append(_pictures(embedder, table.rows[test[found]]))
        titles.append("query:")
        captions.append([_caption(table, int(codes[place])) for place in found])
    title = f"Search by image, {table.name}: the query and what is nearest to it"
    return save_grid(path, pictures, titles, captions, title)


def save_retrieval(path: Path, embedder: Embedder, table: ClassTable, embedding: Tensor, split: str | None) -> Path:
    """For each class its symbol, the stamps nearest to it, and under it those nearest to the words.

    Parameters
    ----------
    split
        The split that `embedding` is of; None for all stamps of the table.
    """
    places = np.arange(len(table.rows)) if split is None else table.places(split)
    codes = table.codes[places]
    symbols, texts = query_vectors(embedder.network, table)
    pictures, titles, captions = [], [], []
    for code in evenly(np.unique(codes), MOST_ROWS // 2):
        meaning = table.meanings[code]
        symbol = 1 - draw_symbol(meaning, 128)[0]
        blank = np.ones_like(symbol)
        for kind, query, first in (("symbol", symbols[code], symbol), ("text", texts[code], blank)):
            found = np.argsort(-(embedding @ query).numpy(), kind="stable")[:SHOWN]
            pictures.append([first, *_pictures(embedder, table.rows[places[found]])])
            titles.append(f"by {kind}:")
            caption = meaning.replace("_", " ") if kind == "symbol" else _wrapped(DESCRIPTIONS[meaning][0])
            captions.append([caption, *(_caption(table, int(codes[place])) for place in found)])
    title = f"Search by symbol and by text, {table.name}, {split or 'all'} stamps"
    return save_grid(path, pictures, titles, captions, title)


def _pictures(embedder: Embedder, rows: np.ndarray) -> list[np.ndarray]:
    rgb = embedder.inputs.to_network(embedder.copy.read(rows), embedder.units)
    return list(torch.clamp(rgb, 0, 1).numpy())


def _caption(table: ClassTable, code: int) -> str:
    return table.meanings[code].replace("_", " ")


def _wrapped(text: str) -> str:
    return text if len(text) <= 26 else f"{text[:25]}…"
