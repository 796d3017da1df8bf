"""The ranked list of lens candidates, as a table and as a sheet to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from galaxy_models.photometry import viewer_rgb
from tasks.figures import DOTS_PER_INCH
from tasks.infer.publish import read_predictions
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset
from tasks.stamps.dataset import StampDataset

SCORE = "lens_score"
KEPT = ("row", "object_id", "ra", "dec", "source", "pixel_scale", "split", SCORE, "boxes")
COLUMNS_OF_SHEET = 8


def write_lens_list(
    catalogue: Path, path: Path, survey: SurveyDefinition, prepared: PreparedDataset, sheet: int
) -> list[Path]:
    """Write the ranked list (Parquet, and CSV beside it) and the picture of its first `sheet` stamps.

    Only usable stamps are ranked, and only of the sources whose labels taught the lens finder, where there are such:
    its scores for another survey's stamps mean something else. The column `split` says which ones it was trained on.

    Parameters
    ----------
    catalogue
        Folder with the predictions.

    Returns
    -------
    list of Path
        The figures; nothing is written if no lens finder was asked.
    """
    predictions = read_predictions(catalogue, [*KEPT, "usable"])
    if SCORE not in predictions:
        return []
    ranked = rank(predictions, survey)
    for table in survey.labels:
        if table.kind == "grade" and f"grade.{table.name}" in prepared.table:
            ranked[f"grade_{table.name}"] = prepared.table[f"grade.{table.name}"].to_numpy()[ranked["row"]]
    ranked.to_parquet(path, index=False)
    text = ranked.assign(boxes=[_box_text(boxes) for boxes in ranked["boxes"]])
    text.to_csv(path.with_suffix(".csv"), index=False, float_format="%.7g")
    if not len(ranked) or not sheet:
        return []
    return [save_lens_sheet(path.with_suffix(".png"), ranked.head(sheet), prepared.dataset)]


def rank(predictions: pd.DataFrame, survey: SurveyDefinition) -> pd.DataFrame:
    """Usable, answered rows of the lens sources by falling score; equal scores by object id."""
    sources = {table.source for table in survey.tables("lens")}
    wanted = predictions["usable"].astype(bool) & predictions[SCORE].notna()
    if sources:
        wanted &= predictions["source"].isin(sources)
    kept = predictions.loc[wanted, [name for name in KEPT if name in predictions]]
    ranked = kept.sort_values([SCORE, "object_id"], ascending=[False, True], kind="stable", ignore_index=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def save_lens_sheet(path: Path, ranked: pd.DataFrame, dataset: StampDataset) -> Path:
    """The first candidates as RGB with their boxes, score and object id."""
    pictures = stamps_as_rgb(dataset, ranked["row"].to_numpy(dtype=np.int64))
    columns = min(COLUMNS_OF_SHEET, len(ranked))
    lines = -(-len(ranked) // columns)
    figure = Figure(figsize=(columns * 1.55, lines * 1.85 + 0.35), dpi=DOTS_PER_INCH, layout="constrained")
    panels: NDArray[Any] = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, picture, candidate in zip(panels, pictures, ranked.to_dict("records"), strict=False):
        size = picture.shape[0]
        axes.imshow(picture, extent=(0, size, size, 0), interpolation="nearest")
        for x0, y0, x1, y1, _ in _best(candidate["boxes"]):
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="#ffd24a", linewidth=0.9))
        title = f"{candidate['rank']}   {candidate[SCORE]:.3f}   {candidate['split']}\n{_short(candidate['object_id'])}"
        axes.set_title(title, fontsize=6, pad=2)
    figure.suptitle("lens candidates by score", fontsize=9)
    figure.savefig(path)
    return path


def stamps_as_rgb(dataset: StampDataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, H, W, 3) RGB in 0..1 of valid rows, as the models see them before crop and binning."""
    stamps = torch.from_numpy(dataset.read_rows(rows))
    rgb = viewer_rgb(stamps.float(), dataset.bands) if dataset.units == "nanomaggy" else stamps.float() / 255
    return np.asarray(rgb.permute(0, 2, 3, 1).numpy(), dtype=np.float32)


def _best(boxes: Sequence[Sequence[float]], most: int = 3) -> list[list[float]]:
    return [list(box) for box in boxes][:most]


def _box_text(boxes: Sequence[Sequence[float]]) -> str:
    return json.dumps([[round(float(value), 2) for value in box] for box in boxes])


def _short(object_id: str, most: int = 24) -> str:
    """The end of an id, where those of one source differ."""
    name = object_id.rpartition("/")[2]
    return name if len(name) <= most else f"...{name[3 - most :]}"
