"""What the pre-trained network learnt: how well it paints hidden patches, and whom its embedding calls alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.masking import fill_hidden, masked_errors, normalise_patches, random_masks, show_hidden
from galaxy_models.metrics import balanced_accuracy, knn_precision, linear_probe, macro_auc, mean_interval, nearest
from galaxy_models.pretraining import as_picture, standardised
from galaxy_models.training import History, step_seed
from galaxy_models.volunteer_answers import UNLIKELY, said_by_answers
from infra.errors import GalaxyError
from infra.profile import PretrainSettings
from tasks.figures import save_curves, save_grid, save_scatter
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset
from tasks.train.common import Rows, evenly, stamps_in_order, write_evaluation
from tasks.train.pretexts import view_augmentation_of

BATCH = 128
PIXEL_SIDE = 16
"""Pixels along a side of the small pictures that stand for `pixels` as an embedding."""

MOST_STAMPS = 512
"""Stamps per source that reconstruction is measured on."""

MOST_GALLERY = 20_000
NEIGHBOURS = 10
SHOWN_STAMPS = 8

LOSSES = {
    "masked": "L1 on hidden pixels / spread",
    "views": "NT-Xent of two views",
    "measures": "smooth L1 of standardised measures",
    "answers": "relative entropy of answers",
}
"""What the loss is, by pretext; of several it is the weighted sum."""

TOLD_CLASSES = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral", "strong_bar", "merger")
"""Classes of the rows of the sheet of what is told."""

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
        self._evaluation: tuple[pd.DataFrame, bool] | None = None

    @torch.inference_mode()
    def reconstruction(self, network: GalaxyLVM) -> None:
        """Masked L1 on validation stamps of each source, beside that of the plainest guess, and a sheet of examples.

        The plainest guess paints every hidden pixel in the mean colour of the image's visible ones. A network that
        learnt normalised patches has level and contrast of its picture from the visible surroundings (`as_picture`):
        its error is in RGB units like that of any other, and higher by what the surroundings cannot know;
        `masked_l1_normalised` is its error in the units it learnt in.
        """
        patch = self.settings.mask_patch if self.settings.normalise_target else None
        network = network.to(self.device).eval()
        for source in [source.name for source in self.survey.sources]:
            rows = evenly(self.prepared.rows("validation", source), MOST_STAMPS)
            if not len(rows):
                continue
            errors, plain, normalised, shown = [], [], [], []
            for number, rgb in enumerate(self._pictures(rows)):
                hidden = self._masks(rgb, number)
                raw = network(rgb, hidden)
                painted = as_picture(network, raw, rgb, hidden, patch)
                if patch is not None:
                    normalised.append(masked_errors(standardised(network, raw), normalise_patches(rgb, patch), hidden))
                errors.append(masked_errors(painted, rgb, hidden))
                plain.append(masked_errors(_visible_mean(rgb, hidden), rgb, hidden))
                shown.append((rgb, hidden, painted))
            values = torch.cat(errors).double().cpu().numpy()
            self.metrics[f"{source}.masked_l1"] = float(values.mean())
            self.metrics[f"{source}.masked_l1_mean_colour"] = float(torch.cat(plain).double().mean())
            if normalised:
                self.metrics[f"{source}.masked_l1_normalised"] = float(torch.cat(normalised).double().mean())
            self._reconstruction_sheet(source, *shown[0])
            if self._evaluation is None:
                self.headline = f"{source}.masked_l1"
                frame = pd.DataFrame({"object_id": self._ids(rows), "label": source, "score": values})
                self._evaluation = (frame, False)

    @torch.inference_mode()
    def views(self, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
        """Share of validation stamps of each source whose second look is the nearest of all to the first.

        Looks are drawn as in training, but not observed anew; the embedding is the one that users get. Beside it stands
        the untrained network's share.
        """
        augmentation = view_augmentation_of(self.prepared.dataset.units, self.settings)
        for source in [source.name for source in self.survey.sources]:
            rows = evenly(self.prepared.rows("validation", source), MOST_STAMPS)
            if len(rows) < 2:
                continue
            spaces = {"": network.to(self.device).eval(), "_untrained": untrained.to(self.device).eval()}
            looks = [self._looks(rows, augmentation, look) for look in range(2)]
            for suffix, space in spaces.items():
                first, second = (
                    np.concatenate([space.embed(rgb).float().cpu().numpy() for rgb in look]) for look in looks
                )
                hits = nearest(first, second, 1)[:, 0] == np.arange(len(rows))
                self.metrics[f"{source}.view_match{suffix}"] = float(hits.mean())
                if not suffix and self._evaluation is None:
                    self.headline = f"{source}.view_match"
                    frame = pd.DataFrame(
                        {"object_id": self._ids(rows), "label": source, "score": hits.astype(np.float64)}
                    )
                    self._evaluation = (frame, True)

    @torch.inference_mode()
    def neighbours(self, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
        """What the frozen embedding knows of each table that feeds `neighbours`; train stamps teach, test stamps ask.

        Precision of the nearest neighbours, and balanced accuracy of a linear probe. Beside the trained network's
        figures stand those of the same network untrained, of the pictures themselves at 16 x 16 pixels, and chance.
        """
        for label in self.survey.tables("neighbours"):
            self._neighbours(label, network, untrained)

    @torch.inference_mode()
    def told(self, network: GalaxyLVM) -> None:
        """What volunteers would say of each source's validation stamps: a sheet of those it is surest of, by class.

        For each label table whose classes volunteers' answers tell: the macro AUC on test stamps, of which the network
        has seen no label.
        """
        network = network.to(self.device).eval()
        for source in [source.name for source in self.survey.sources]:
            rows = evenly(self.prepared.rows("validation", source), MOST_STAMPS)
            if len(rows):
                self._told_sheet(source, rows, np.exp(self._told(network, rows, TOLD_CLASSES)))
        for label in self.survey.tables("classification"):
            codes, names = class_codes(self.prepared.table, label), class_names(label)
            rows = self._labelled(codes, "test", label.source)
            if said_by_answers(names) is not None and len(rows):
                logs = torch.from_numpy(self._told(network, rows, names))
                self.metrics[f"{label.name}.told_auc"] = macro_auc(codes[rows], logs.softmax(dim=1))

    def loss_curve(self, history: History) -> None:
        """The loss over the steps."""
        if history:
            steps = [point["step"] for point in history]
            losses = [point["loss"] for point in history]
            self._keep(
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
        if self._evaluation is None:
            raise GalaxyError(
                f"survey {self.survey.name}: no usable validation stamp and no label table for `neighbours`, so the "
                "model cannot be measured; raise `validation_fraction` or add objects"
            )
        frame, higher_is_better = self._evaluation
        columns = tuple(name for name in frame.columns if name != "score")
        return write_evaluation(folder, frame, self.headline, higher_is_better=higher_is_better, digest_columns=columns)

    def _neighbours(self, label: LabelTable, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
        codes = class_codes(self.prepared.table, label)
        gallery, queries = (self._labelled(codes, split, label.source) for split in ("train", "test"))
        if not len(gallery) or not len(queries):
            return
        spaces: dict[str, Callable[[Tensor], Tensor]] = {
            "": network.to(self.device).eval().embed,
            "_untrained": untrained.to(self.device).eval().embed,
            "_pixels": _small_pictures,
        }
        name = f"{label.name}.knn_precision"
        for suffix, embed in spaces.items():
            vectors = self._vectors(gallery, embed), self._vectors(queries, embed)
            hits = knn_precision(vectors[1], codes[queries], vectors[0], codes[gallery], NEIGHBOURS)
            self.metrics[f"{name}{suffix}"] = float(hits.mean())
            probed = linear_probe(vectors[1], vectors[0], codes[gallery])
            self.metrics[f"{label.name}.linear_probe{suffix}"] = balanced_accuracy(codes[queries], probed)
            if not suffix:
                low, high = mean_interval(hits, seed=self.settings.seed)
                self.metrics.update({f"{name}_low": low, f"{name}_high": high})
                trained, scores = vectors, hits
        shares = np.bincount(codes[gallery], minlength=codes.max() + 1) / len(gallery)
        self.metrics[f"{name}_chance"] = float(shares[codes[queries]].mean())
        names = np.array(class_names(label))
        self._neighbour_sheet(label, trained, gallery, queries, names[codes[gallery]], names[codes[queries]])
        self._map(label, trained[1], names[codes[queries]])
        if not self.headline.endswith("knn_precision"):
            self.headline = name
            rows = np.concatenate([queries, gallery])
            frame = pd.DataFrame(
                {
                    "object_id": self._ids(rows),
                    "label": names[codes[rows]],
                    "role": ["query"] * len(queries) + ["gallery"] * len(gallery),
                    "score": np.concatenate([scores, np.full(len(gallery), np.nan)]),
                }
            )
            self._evaluation = (frame, True)

    def _told(self, network: GalaxyLVM, rows: Rows, classes: Sequence[str]) -> Vectors:
        """(n, classes): log-chance that a volunteer says each."""
        table = said_by_answers(classes)
        assert table is not None
        table = table.to(self.device)

        def log_chances(rgb: Tensor) -> Tensor:
            chances = network.describe(rgb)[1]
            assert chances is not None
            return chances.log().clamp_min(UNLIKELY) @ table

        return self._vectors(rows, log_chances)

    def _told_sheet(self, source: str, rows: Rows, chances: Vectors) -> None:
        surest = [np.argsort(-column, kind="stable")[:SHOWN_STAMPS] for column in chances.T]
        self._keep(
            save_grid(
                self.folder / f"told_{source}.png",
                [[self._picture(row).cpu().numpy()[0] for row in rows[places]] for places in surest],
                [name.replace("_", " ") for name in TOLD_CLASSES],
                [
                    [f"{column[place]:.2f}" for place in places]
                    for column, places in zip(chances.T, surest, strict=True)
                ],
                title=f"{source}, validation stamps: the chance that volunteers say so, learnt from simulated galaxies",
            )
        )

    def _labelled(self, codes: NDArray[np.int64], split: str, source: str) -> Rows:
        rows = self.prepared.rows(split, source)
        return evenly(rows[codes[rows] >= 0], MOST_GALLERY)

    def _vectors(self, rows: Rows, embed: Callable[[Tensor], Tensor]) -> Vectors:
        return np.concatenate([embed(rgb).float().cpu().numpy() for rgb in self._pictures(rows)])

    def _pictures(self, rows: Rows) -> Iterator[Tensor]:
        for stamps in stamps_in_order(self.prepared, rows, BATCH):
            yield self.inputs.to_network(stamps.to(self.device), self.prepared.dataset.units)

    def _looks(self, rows: Rows, augmentation: Augmentation, look: int) -> list[Tensor]:
        """A look at each stamp, batch by batch: the same for every network of these settings."""
        views = []
        for number, stamps in enumerate(stamps_in_order(self.prepared, rows, BATCH)):
            generator = torch.Generator().manual_seed(step_seed(self.settings.seed, 2_000_000_000 + 2 * number + look))
            view = augmented_input(stamps, self.prepared.dataset.units, self.inputs, augmentation, generator)
            views.append(view.to(self.device))
        return views

    def _masks(self, rgb: Tensor, number: int) -> Tensor:
        """The masks of the evaluation's batch `number`: the same for every network of these settings."""
        generator = torch.Generator().manual_seed(step_seed(self.settings.seed, 1_000_000_000 + number))
        patch, fraction = self.settings.mask_patch, self.settings.mask_fraction
        count, _, height, width = rgb.shape
        return random_masks(count, height, width, patch, fraction, generator).to(rgb.device)

    def _ids(self, rows: Rows) -> NDArray[np.object_]:
        return self.prepared.table["object_id"].to_numpy(object)[rows]

    def _reconstruction_sheet(self, source: str, rgb: Tensor, hidden: Tensor, painted: Tensor) -> None:
        chosen = evenly(np.arange(len(rgb)), SHOWN_STAMPS)
        rgb, hidden, painted = rgb[chosen], hidden[chosen], painted[chosen]
        rows = [show_hidden(rgb, hidden), fill_hidden(rgb, painted, hidden), rgb]
        self._keep(
            save_grid(
                self.folder / f"rebuilt_{source}.png",
                [list(images.cpu().numpy()) for images in rows],
                ["masked", "rebuilt", "original"],
                title=f"{source}, validation stamps: L1 on hidden pixels {self.metrics[f'{source}.masked_l1']:.4f}, "
                f"mean colour {self.metrics[f'{source}.masked_l1_mean_colour']:.4f}",
            )
        )

    def _neighbour_sheet(
        self,
        label: LabelTable,
        vectors: tuple[Vectors, Vectors],
        gallery: Rows,
        queries: Rows,
        gallery_names: NDArray[np.str_],
        query_names: NDArray[np.str_],
    ) -> None:
        """One query of each class, chosen by place and not by success, and its nearest train stamps."""
        chosen = np.array([np.flatnonzero(query_names == name)[0] for name in sorted(set(query_names))])[:SHOWN_STAMPS]
        found = nearest(vectors[1][chosen], vectors[0], SHOWN_STAMPS - 1)
        rows, captions = [], []
        for query, neighbours in zip(chosen, found, strict=True):
            wanted = np.concatenate([queries[[query]], gallery[neighbours]])
            pictures = torch.cat([self._picture(row) for row in wanted])
            rows.append(list(pictures.cpu().numpy()))
            names = ["query: " + query_names[query], *gallery_names[neighbours]]
            captions.append([name.replace("_", " ") for name in names])
        title = f"{label.name}: nearest train stamps of test stamps"
        self._keep(save_grid(self.folder / f"neighbours_{label.name}.png", rows, captions=captions, title=title))

    def _picture(self, row: int) -> Tensor:
        return next(self._pictures(np.array([row])))

    def _map(self, label: LabelTable, vectors: Vectors, names: NDArray[np.str_]) -> None:
        """Test stamps on the first two principal components of their embeddings."""
        if len(vectors) < 3:
            return
        centred = vectors - vectors.mean(axis=0)
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        # a component's sign is arbitrary; the largest weight is made positive
        axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
        share = spread[:2] ** 2 / max(float((spread**2).sum()), 1e-12)
        first, second = (f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2))
        path = self.folder / f"embedding_{label.name}.png"
        self._keep(save_scatter(path, centred @ axes.T, names.tolist(), first, second, f"{label.name}, test stamps"))

    def _keep(self, path: Path) -> None:
        self.figures.append(path)


def _small_pictures(rgb: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(rgb, PIXEL_SIDE).flatten(1)


def _visible_mean(rgb: Tensor, hidden: Tensor) -> Tensor:
    visible = (~hidden).to(rgb.dtype)
    mean = (rgb * visible).sum(dim=(2, 3), keepdim=True) / visible.sum(dim=(2, 3), keepdim=True)
    return mean.expand_as(rgb)
