"""The lens finder: Mask R-CNN on the feature pyramid of the large vision model, and a score of the whole stamp."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from .card import ModelCard
from .lvm import GalaxyLVM, from_architecture, padding

LEVELS = ("4", "8", "16", "32")
ANCHOR_SIZES = ((8,), (16,), (32,), (56,))
"""Side of a level's square anchor, pixels: arcs and rings are 6 to 60 px across."""

ASPECT_RATIOS = (0.5, 1.0, 2.0)
SCORE_LEVELS = 3
"""The score reads the maps at strides 4, 8 and 16: the coarsest has lost the arcs."""

SCORE_PENALTY = 1.0
BOX_CELLS = 7
MASK_CELLS = 14
ANCHORS_PER_IMAGE = 24
BOXES_PER_IMAGE = 16
"""Drawn for the loss of an image: with one arc in it, more would be sky and sky again."""

DETECTIONS = 4
LEAST_BOX_SCORE = 0.05


@dataclass(frozen=True)
class Detections:
    """Arcs found in one image, best first: boxes (k, 4) as x0, y0, x1, y1, scores (k,), masks (k, h, w) in 0..1."""

    boxes: Tensor
    scores: Tensor
    masks: Tensor


class LensFinder(nn.Module):
    """Boxes and masks of arcs, and the probability that a stamp shows a lens.

    Parameters
    ----------
    encoder
        Its `encode` gives the feature maps at strides 4, 8, 16 and 32, with `channels` channels.
    proposals
        Region proposals per image that reach the box head.
    width
        Channels of the feature pyramid and the heads.
    binning
        Stamp pixels per pixel of the network's input.
    """

    def __init__(self, encoder: GalaxyLVM, proposals: int = 32, width: int = 64, binning: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.binning = binning
        channels = [int(count) for count in encoder.channels]
        self.pyramid = FeaturePyramidNetwork(channels, width)
        anchors = AnchorGenerator(ANCHOR_SIZES, (ASPECT_RATIOS,) * len(ANCHOR_SIZES))
        self.proposer = RegionProposalNetwork(
            anchors,
            RPNHead(width, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.6,
            bg_iou_thresh=0.3,
            batch_size_per_image=ANCHORS_PER_IMAGE,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 4 * proposals, "testing": 4 * proposals},
            post_nms_top_n={"training": proposals, "testing": proposals},
            nms_thresh=0.7,
        )
        self.regions = RoIHeads(
            _region_pool(BOX_CELLS),
            TwoMLPHead(width * BOX_CELLS**2, 2 * width),
            FastRCNNPredictor(2 * width, num_classes=2),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=min(proposals, BOXES_PER_IMAGE),
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=LEAST_BOX_SCORE,
            nms_thresh=0.3,
            detections_per_img=DETECTIONS,
            mask_roi_pool=_region_pool(MASK_CELLS),
            mask_head=MaskRCNNHeads(width, (width, width), 1),
            mask_predictor=MaskRCNNPredictor(width, width, num_classes=2),
        )
        self.score = ScoreHead(4 * sum(channels[:SCORE_LEVELS]))

    def losses(self, rgb: Tensor, masks: Tensor, boxed: Tensor, lens: Tensor) -> dict[str, Tensor]:
        """The terms of the training loss.

        Parameters
        ----------
        rgb
            (N, 3, h, w) in 0..1.
        masks
            (N, h, w) bool: the arc of each image; empty for none.
        boxed
            (N,) bool: whether boxes and masks of that image are known (a real lens has only its class).
        lens
            (N,) float: 1 for a lens, 0 for none.
        """
        border = padding(*rgb.shape[-2:])
        rgb, masks = functional.pad(rgb, border, mode="replicate"), functional.pad(masks, border)
        pooled, levels = self._features(rgb)
        terms = {"score": functional.binary_cross_entropy_with_logits(self.score(pooled), lens.float())}
        known = torch.nonzero(boxed).flatten()
        if len(known):
            chosen = OrderedDict((name, level[known]) for name, level in levels.items())
            targets = [target_of(masks[i]) for i in known.tolist()]
            proposals, proposing = self.proposer(_images(rgb[known]), chosen, targets)
            _, refining = self.regions(chosen, proposals, _sizes(rgb[known]), targets)
            terms.update({name.removeprefix("loss_"): term for name, term in {**proposing, **refining}.items()})
        return terms

    def forward(self, rgb: Tensor) -> tuple[Tensor, list[Detections]]:
        """Logits (N,) of the stamps being lenses, and the arcs in each; in the network's pixels. Needs eval mode."""
        height, width = rgb.shape[-2:]
        left, _, above, _ = border = padding(height, width)
        rgb = functional.pad(rgb, border, mode="replicate")  # where the encoder would do it: boxes then fit its maps
        pooled, levels = self._features(rgb)
        proposals, _ = self.proposer(_images(rgb), levels)
        results, _ = self.regions(levels, proposals, _sizes(rgb))
        offset = rgb.new_tensor([left, above, left, above])
        limits = rgb.new_tensor([width, height, width, height])
        found = []
        for result in results:
            boxes = torch.minimum((result["boxes"] - offset).clamp_min(0), limits)
            inside = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # not in the border alone
            masks = paste_masks_in_image(result["masks"], result["boxes"], rgb.shape[-2:])[:, 0]
            masks = masks[:, above : above + height, left : left + width]
            found.append(Detections(boxes[inside], result["scores"][inside], masks[inside]))
        return self.score(pooled), found

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor, border: int = 0, flux: Tensor | None = None) -> dict[str, np.ndarray]:
        """Columns for (N, 3, h, w) RGB in 0..1, the middle of images that have `border` more pixels on each side.

        Returns
        -------
        dict
            `lens_score` (N,) float32; `boxes` (N,) object: a list of [x0, y0, x1, y1, score] per image, best first,
            in pixels of the whole image (edges of pixel i are i and i + 1), empty where nothing was found.
        """
        logits, found = self.eval()(rgb)
        return self.columns(logits, found, border)

    def columns(self, logits: Tensor, found: Sequence[Detections], border: int = 0) -> dict[str, np.ndarray]:
        """The columns of `predict_columns` from what `forward` gave."""
        boxes = np.empty(len(found), dtype=object)
        for i, arcs in enumerate(found):
            corners = arcs.boxes * self.binning + border
            boxes[i] = torch.cat([corners, arcs.scores[:, None]], dim=1).float().cpu().tolist()
        return {"lens_score": torch.sigmoid(logits.float()).cpu().numpy(), "boxes": boxes}

    @torch.inference_mode()
    def masks(self, rgb: Tensor) -> Tensor:
        """(N, h, w) in 0..1: mask of each image's best arc, in the network's pixels; zero where nothing was found."""
        _, found = self.eval()(rgb)
        return best_masks(found, (rgb.shape[-2], rgb.shape[-1]))

    def pooled(self, rgb: Tensor) -> Tensor:
        """(N, F): what the score is made from, see `pool`."""
        return self._features(rgb)[0]

    def _features(self, rgb: Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        maps = [level.float() for level in self.encoder.encode(rgb)]
        with torch.autocast(rgb.device.type, enabled=False):  # the region operators know only full precision
            levels = self.pyramid(OrderedDict(zip(LEVELS, maps, strict=True)))
        return pool(maps[:SCORE_LEVELS]), levels


class ScoreHead(nn.Module):
    """A linear score of standardised features: with a few dozen real lenses, anything richer learns them by heart."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(N, F) to logits (N,)."""
        standardised = (pooled.float() - self.mean) / self.spread
        logits: Tensor = self.linear(standardised)
        return logits[:, 0]

    def fit(
        self, pooled: Tensor, lens: Tensor, importance: Tensor | None = None, penalty: float = SCORE_PENALTY
    ) -> None:
        """Set all weights to the ridge logistic regression of these features, both classes weighing the same.

        Minimises mean cross-entropy + penalty / 2 * |weights|^2 by L-BFGS: convex, so the start does not matter.

        Parameters
        ----------
        pooled
            (N, F).
        lens
            (N,) bool, with both values in it.
        importance
            (N,) weight of each row within its class; equal by default.
        """
        self.mean = pooled.mean(dim=0)
        self.spread = pooled.std(dim=0).clamp_min(1e-6)
        features = ((pooled - self.mean) / self.spread).double()
        truth = lens.double()
        share = torch.ones_like(truth) if importance is None else importance.double()
        share = torch.where(lens, share / share[lens].sum(), share / share[~lens].sum()) / 2
        weights = torch.zeros(features.shape[1] + 1, dtype=torch.float64, device=pooled.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits = features @ weights[1:] + weights[0]
            entropy = functional.binary_cross_entropy_with_logits(logits, truth, share, reduction="sum")
            value = entropy + 0.5 * penalty * weights[1:].square().sum()
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        with torch.no_grad():
            self.linear.weight.copy_(weights[None, 1:])
            self.linear.bias.copy_(weights[:1])


def pool(maps: Sequence[Tensor]) -> Tensor:
    """Mean, maximum and spread of each channel over the image, and its mean over the central third, for each map.

    Stamps are centred on the possible deflector; arcs are faint, small and anywhere around it.
    """
    columns = []
    for level in maps:
        size = level.shape[-1]
        low = size // 2 - max(1, size // 6)
        middle = level[:, :, low : size - low, low : size - low]
        columns += [level.mean((2, 3)), level.amax((2, 3)), level.std((2, 3)), middle.mean((2, 3))]
    return torch.cat(columns, dim=1)


def build(card: ModelCard) -> LensFinder:
    """The network that `card` describes, with weights yet to be filled in."""
    architecture = card.architecture
    return LensFinder(
        from_architecture(architecture["encoder"]),
        proposals=int(architecture["proposals"]),
        width=int(architecture["width"]),
        binning=card.inputs.binning,
    )


def best_masks(found: Sequence[Detections], size: tuple[int, int]) -> Tensor:
    """(N, h, w) in 0..1: the mask of each image's best arc; zero where there is none."""
    return torch.stack([arcs.masks[0] if len(arcs.masks) else arcs.masks.new_zeros(size) for arcs in found])


def target_of(mask: Tensor) -> dict[str, Tensor]:
    """What torchvision's heads learn from: box, label and mask of the one arc in `mask` (h, w), or of none."""
    rows, columns = torch.nonzero(mask, as_tuple=True)
    if not len(rows):
        return {
            "boxes": torch.zeros((0, 4), device=mask.device),
            "labels": torch.zeros(0, dtype=torch.int64, device=mask.device),
            "masks": mask.new_zeros((0, *mask.shape), dtype=torch.uint8),
        }
    corners = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return {
        "boxes": corners[None].float(),
        "labels": torch.ones(1, dtype=torch.int64, device=mask.device),
        "masks": mask[None].to(torch.uint8),
    }


def _region_pool(cells: int) -> MultiScaleRoIAlign:
    """Features of a box on (cells, cells): from stride 4 for boxes up to 64 px, as arcs are thinner than 8 px."""
    return MultiScaleRoIAlign(list(LEVELS), cells, sampling_ratio=2, canonical_scale=128, canonical_level=4)


def _sizes(rgb: Tensor) -> list[tuple[int, int]]:
    return [(rgb.shape[-2], rgb.shape[-1])] * len(rgb)


def _images(rgb: Tensor) -> ImageList:
    return ImageList(rgb, _sizes(rgb))
