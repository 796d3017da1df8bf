"""How well the pre-trained network paints hidden patches of stamps it never saw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxy_models.lvm import GalaxyLVM
from galaxy_models.masking import fill_hidden, masked_errors, normalise_patches, random_masks, show_hidden
from galaxy_models.pretraining import as_picture, standardised
from galaxy_models.training import step_seed
from infra.profile import PretrainSettings
from tasks.figures import save_grid
from tasks.train.common import evenly
from tasks.train.pretrain_report import SHOWN_STAMPS, PretrainReport


@torch.inference_mode()
def report_reconstruction(report: PretrainReport, network: GalaxyLVM) -> None:
    """Masked L1 on validation stamps of each source, beside that of the plainest guess, and a sheet of examples.

    The plainest guess paints every hidden pixel in the mean colour of the image's visible ones. A network that
    learnt normalised patches has level and contrast of its picture from the visible surroundings (`as_picture`):
    its error is in RGB units like that of any other, and higher by what the surroundings cannot know;
    `masked_l1_normalised` is its error in the units it learnt in.
    """
    patch = report.settings.mask_patch if report.settings.normalise_target else None
    network = network.to(report.device).eval()
    for source, rows in report.validation():
        errors, plain, normalised, shown = [], [], [], []
        for number, rgb in enumerate(report.pictures(rows)):
            hidden = _masks(report.settings, rgb, number)
            raw = network(rgb, hidden)
            painted = as_picture(network, raw, rgb, hidden, patch)
            if patch is not None:
                normalised.append(masked_errors(standardised(network, raw), normalise_patches(rgb, patch), hidden))
            errors.append(masked_errors(painted, rgb, hidden))
            plain.append(masked_errors(_visible_mean(rgb, hidden), rgb, hidden))
            shown.append((rgb, hidden, painted))
        values = torch.cat(errors).double().cpu().numpy()
        report.metrics[f"{source}.masked_l1"] = float(values.mean())
        report.metrics[f"{source}.masked_l1_mean_colour"] = float(torch.cat(plain).double().mean())
        if normalised:
            report.metrics[f"{source}.masked_l1_normalised"] = float(torch.cat(normalised).double().mean())
        _sheet(report, source, *shown[0])
        frame = pd.DataFrame({"object_id": report.object_ids(rows), "label": source, "score": values})
        report.judge_by(f"{source}.masked_l1", frame, higher_is_better=False)


def _masks(settings: PretrainSettings, rgb: Tensor, number: int) -> Tensor:
    """The masks of the evaluation's batch `number`: the same for every network of these settings."""
    generator = torch.Generator().manual_seed(step_seed(settings.seed, 1_000_000_000 + number))
    patch, fraction = settings.mask_patch, settings.mask_fraction
    count, _, height, width = rgb.shape
    return random_masks(count, height, width, patch, fraction, generator).to(rgb.device)


def _sheet(report: PretrainReport, source: str, rgb: Tensor, hidden: Tensor, painted: Tensor) -> None:
    chosen = evenly(np.arange(len(rgb)), SHOWN_STAMPS)
    rgb, hidden, painted = rgb[chosen], hidden[chosen], painted[chosen]
    rows = [show_hidden(rgb, hidden), fill_hidden(rgb, painted, hidden), rgb]
    report.keep(
        save_grid(
            report.folder / f"rebuilt_{source}.png",
            [list(images.cpu().numpy()) for images in rows],
            ["masked", "rebuilt", "original"],
            title=f"{source}, validation stamps: L1 on hidden pixels {report.metrics[f'{source}.masked_l1']:.4f}, "
            f"mean colour {report.metrics[f'{source}.masked_l1_mean_colour']:.4f}",
        )
    )


def _visible_mean(rgb: Tensor, hidden: Tensor) -> Tensor:
    visible = (~hidden).to(rgb.dtype)
    mean = (rgb * visible).sum(dim=(2, 3), keepdim=True) / visible.sum(dim=(2, 3), keepdim=True)
    return mean.expand_as(rgb)
