"""Does pre-training help: what a linear classifier and nearest neighbours make of vectors that no label has formed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from galaxy_models.lvm import GalaxyLVM
from galaxy_models.metrics import balanced_accuracy, bootstrap_interval, macro_auc
from galaxy_models.morphometry import MEASURES
from galaxy_models.pooling import mean_and_spread
from tests.evidence.classifiers import Labelled, Rows
from tests.evidence.cross_fit import CrossFit, opened
from tests.evidence.handmade import own_measures
from tests.evidence.pretrained import Pretraining, network_input, pretrained, untrained
from tests.evidence.stamps import Stamps
from tests.evidence.workbench import Workbench

Vectors = NDArray[np.float64]

EFIGI_TYPES = ("elliptical", "lenticular", "early_spiral", "late_spiral", "irregular")
"""Of the label table `efigi_type`, whose classes are called `efigi_...`."""
CLASSICAL = ("concentration", "asymmetry", "gini")
PENALTIES = (0.003, 0.03, 0.3)
NEIGHBOURS = 10
COMPONENTS = 64


@dataclass(frozen=True)
class Question:
    """Who learns from whom: the labelled gallery, the galaxies that choose the penalty, and those that are asked."""

    name: str
    gallery: Labelled
    validation: Labelled
    asked: Labelled


def run(bench: Workbench) -> None:
    """Measure all representations on both sets, and write the table."""
    measurement = opened(bench)
    stamps, size = measurement.stamps, measurement.size
    rows = measurement.unlabelled(size.tested[0])
    questions = (_zoo(measurement), efigi(stamps))
    head = ["", *(f"{q.name}, {kind}" for q in questions for kind in ("linear probe", f"{NEIGHBOURS} neighbours"))]
    table = []
    for name, vectors in _representations(bench, stamps, rows, size.pretraining).items():
        cells = [name]
        for question in questions:
            result = bench.cell(
                lambda question=question, vectors=vectors: asked(vectors, question),  # type: ignore[misc]
                representation=name, of=question.name, stamps=len(rows), steps=size.pretraining.steps,
            )  # fmt: skip
            cells += [f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in (result["probe"], result["neighbours"])]
        table.append(cells)
    bench.table(
        "What unlabelled vectors know: balanced accuracy",
        head,
        table,
        "Galaxy Zoo 2: five classes, one test fold; EFIGI: five types, the survey's own split. 95 % bootstrap "
        "intervals over test galaxies. The probe is a logistic regression, its penalty chosen on validation galaxies.",
    )


def _representations(
    bench: Workbench, stamps: Stamps, rows: Rows, how: Pretraining
) -> dict[str, Callable[[Rows], Vectors]]:
    """By name, what makes vectors of rows. Whatever is fitted is fitted on `rows`, which hold no test galaxy."""
    network = pretrained(bench, stamps, rows, how, torch.get_num_threads())
    first = untrained(stamps, rows, how.preset, how.seed)
    pixels = make_pipeline(StandardScaler(), PCA(COMPONENTS, random_state=0, svd_solver="randomized"))
    pixels.fit(_pixels(stamps, rows))
    chosen = [MEASURES.index(name) for name in CLASSICAL]
    found: dict[str, Callable[[Rows], Vectors]] = {
        f"pre-trained on {' and '.join(dict(how.pretexts))}, all maps": lambda r: _all_maps(network, stamps, r),
        f"pre-trained on {' and '.join(dict(how.pretexts))}, embedding": lambda r: _embedding(network, stamps, r),
        "untrained, all maps": lambda r: _all_maps(first, stamps, r),
        "untrained, embedding": lambda r: _embedding(first, stamps, r),
        f"pixels, {COMPONENTS} principal components": lambda r: np.asarray(pixels.transform(_pixels(stamps, r))),
        "concentration, asymmetry, Gini": lambda r: own_measures(stamps, r)[:, chosen],
        "all classical measures": lambda r: own_measures(stamps, r),
    }
    return found


def asked(vectors: Callable[[Rows], Vectors], question: Question) -> dict[str, Any]:
    """Balanced accuracy, with the ends of its interval, of the `probe` and of the `neighbours`."""
    gallery, validation, asked = (
        vectors(each.rows) for each in (question.gallery, question.validation, question.asked)
    )
    codes = question.gallery.codes
    probes = [_probe(penalty).fit(gallery, codes) for penalty in PENALTIES]
    scores = [macro_auc(question.validation.codes, probe.predict_proba(validation)) for probe in probes]
    probe = probes[int(np.argmax(scores))]
    neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier(NEIGHBOURS, metric="cosine"))
    neighbours.fit(gallery, codes)
    truth = question.asked.codes
    return {
        "probe": _with_interval(truth, probe.predict(asked)),
        "neighbours": _with_interval(truth, neighbours.predict(asked)),
    }


def _probe(penalty: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=3000, class_weight="balanced"))


def _with_interval(truth: NDArray[np.int64], told: NDArray[np.int64]) -> tuple[float, float, float]:
    return (balanced_accuracy(truth, told), *bootstrap_interval(balanced_accuracy, truth, told, seed=0))


def _zoo(measurement: CrossFit) -> Question:
    parts = measurement.parts(measurement.five, measurement.size.tested[0])
    return Question("Galaxy Zoo 2", parts.train, parts.validation, parts.test)


def efigi(stamps: Stamps) -> Question:
    """Five types by the survey's own split."""
    names = {f"efigi_{name}": code for code, name in enumerate(EFIGI_TYPES)}
    told = stamps.table["label.efigi_type"].astype("string").map(names)
    codes = np.asarray(told.fillna(-1), dtype=np.int64)
    split = stamps.table["split"].to_numpy(dtype=str)
    parts = []
    for name in ("train", "validation", "test"):
        rows = np.flatnonzero((codes >= 0) & (split == name))
        parts.append(Labelled(rows, codes[rows]))
    return Question("EFIGI", *parts)


def _pixels(stamps: Stamps, rows: Rows) -> NDArray[np.float32]:
    """(n, 3 x 16 x 16): the middle of the stamps, averaged over 4 x 4 pixels."""
    small = torch.nn.functional.avg_pool2d(network_input(stamps, rows), 4)
    return small.flatten(1).numpy()


def _in_parts(rows: Rows, of: Callable[[torch.Tensor], torch.Tensor], stamps: Stamps) -> Vectors:
    with torch.inference_mode():
        parts = [of(network_input(stamps, part)) for part in np.array_split(rows, max(1, len(rows) // 256))]
    return torch.cat(parts).double().numpy()


def _all_maps(network: GalaxyLVM, stamps: Stamps, rows: Rows) -> Vectors:
    """Mean and spread of every channel of the four maps: what the heads read."""
    return _in_parts(rows, lambda rgb: mean_and_spread(network.eval().encode(rgb)), stamps)


def _embedding(network: GalaxyLVM, stamps: Stamps, rows: Rows) -> Vectors:
    """What the catalogue's similarity search uses."""
    return _in_parts(rows, network.eval().embed, stamps)
