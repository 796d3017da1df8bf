"""The lens finder: Mask R-CNN on the feature pyramid of the large vision model, and a score of the whole stamp."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

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
from .lvm import GalaxyLVM, from_architecture

LEVELS = ("4", "8", "16", "32")
ANCHOR_SIZES = ((8,), (16,), (32,), (56,))
"""Side of a level's square anchor, pixels: arcs and rings are 6 to 60 px across."""

ASPECT_RATIOS = (0.5, 1.0, 2.0)
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
    offset
        Pixels from the stamp's edge to the crop's, added to the boxes that `predict_columns` gives.
    binning
        Stamp pixels per pixel of the network's input.
    """

    def __init__(
        self, encoder: GalaxyLVM, proposals: int = 32, width: int = 64, offset: int = 0, binning: int = 1
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.offset, self.binning = offset, binning
        channels = [int(count) for count in encoder.channels]
        self.pyramid = FeaturePyramidNetwork(channels, width)
        anchors = AnchorGenerator(ANCHOR_SIZES, (ASPECT_RATIOS,) * len(ANCHOR_SIZES))
        self.proposer = RegionProposalNetwork(
            anchors,
            RPNHead(width, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.6,
            bg_iou_thresh=0.3,
            batch_size_per_image=64,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 4 * proposals, "testing": 4 * proposals},
            post_nms_top_n={"training": proposals, "testing": proposals},
            nms_thresh=0.7,
        )
        self.regions = RoIHeads(
            MultiScaleRoIAlign(list(LEVELS), output_size=5, sampling_ratio=2, canonical_scale=32, canonical_level=4),
            TwoMLPHead(width * 5 * 5, 2 * width),
            FastRCNNPredictor(2 * width, num_classes=2),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=proposals,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=LEAST_BOX_SCORE,
            nms_thresh=0.3,
            detections_per_img=DETECTIONS,
            mask_roi_pool=MultiScaleRoIAlign(
                list(LEVELS), output_size=14, sampling_ratio=2, canonical_scale=32, canonical_level=4
            ),
            mask_head=MaskRCNNHeads(width, (width, width), 1),
            mask_predictor=MaskRCNNPredictor(width, width, num_classes=2),
        )
        pooled = channels[-1] + 2 * width
        self.score_head = nn.Sequential(
            nn.LayerNorm(pooled), nn.Dropout(0.2), nn.Linear(pooled, 2 * width), nn.GELU(), nn.Linear(2 * width, 1)
        )

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
        last, levels = self._features(rgb)
        terms = {"score": functional.binary_cross_entropy_with_logits(self._logits(last, levels), lens.float())}
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
        last, levels = self._features(rgb)
        proposals, _ = self.proposer(_images(rgb), levels)
        results, _ = self.regions(levels, proposals, _sizes(rgb))
        size = (rgb.shape[-2], rgb.shape[-1])
        found = [
            Detections(
                boxes=result["boxes"],
                scores=result["scores"],
                masks=paste_masks_in_image(result["masks"], result["boxes"], size)[:, 0],
            )
            for result in results
        ]
        return self._logits(last, levels), found

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor) -> dict[str, np.ndarray]:
        """Columns for (N, 3, h, w) RGB in 0..1.

        Returns
        -------
        dict
            `lens_score` (N,) float32; `boxes` (N,) object: a list of [x0, y0, x1, y1, score] per image, best first,
            in pixels of the whole stamp (edges of pixel i are i and i + 1), empty where nothing was found.
        """
        return self.columns(*self.eval()(rgb))

    def columns(self, logits: Tensor, found: Sequence[Detections]) -> dict[str, np.ndarray]:
        """The columns of `predict_columns` from what `forward` gave."""
        boxes = np.empty(len(found), dtype=object)
        for i, arcs in enumerate(found):
            corners = arcs.boxes * self.binning + self.offset
            boxes[i] = torch.cat([corners, arcs.scores[:, None]], dim=1).float().cpu().tolist()
        return {"lens_score": torch.sigmoid(logits.float()).cpu().numpy(), "boxes": boxes}

    @torch.inference_mode()
    def masks(self, rgb: Tensor) -> Tensor:
        """(N, h, w) in 0..1: mask of each image's best arc, in the network's pixels; zero where nothing was found."""
        _, found = self.eval()(rgb)
        return best_masks(found, (rgb.shape[-2], rgb.shape[-1]))

    def _features(self, rgb: Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        maps = [level.float() for level in self.encoder.encode(rgb)]
        with torch.autocast(rgb.device.type, enabled=False):  # the region operators know only full precision
            levels = self.pyramid(OrderedDict(zip(LEVELS, maps, strict=True)))
        return maps[-1], levels

    def _logits(self, last: Tensor, levels: OrderedDict[str, Tensor]) -> Tensor:
        """The score sees the stamp as a whole, and the strongest response anywhere on the two finest levels."""
        strongest = [levels[name].amax(dim=(2, 3)) for name in LEVELS[:2]]
        pooled = torch.cat([last.mean(dim=(2, 3)), *strongest], dim=1)
        return cast(Tensor, self.score_head(pooled))[:, 0]


def build(card: ModelCard) -> LensFinder:
    """The network that `card` describes, with weights yet to be filled in."""
    architecture, inputs = card.architecture, card.inputs
    return LensFinder(
        from_architecture(architecture["encoder"]),
        proposals=int(architecture["proposals"]),
        width=int(architecture["width"]),
        offset=(inputs.stamp_size - inputs.crop) // 2,
        binning=inputs.binning,
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


def _sizes(rgb: Tensor) -> list[tuple[int, int]]:
    return [(rgb.shape[-2], rgb.shape[-1])] * len(rgb)


def _images(rgb: Tensor) -> ImageList:
    return ImageList(rgb, _sizes(rgb))
