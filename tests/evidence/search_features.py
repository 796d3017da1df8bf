"""What a search sees of each galaxy: vectors that no answer of the search has formed, made once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from galaxy_models.align import GalaxAlign
from galaxy_models.align_objective import AlignObjective, PairWeights
from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.image_towers import LvmTower
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.search_view import View
from galaxy_models.training import fit, step_seed
from galaxy_models.volunteer_answers import TOLD_COLUMNS
from infra.profile import AlignSettings
from infra.stage_folder import canonical_digest
from tests.evidence.cross_fit import FIVE, five_codes
from tests.evidence.pretrained import Pretraining, network_input, pretrained
from tests.evidence.simulated import simulator_digest
from tests.evidence.stamps import INPUTS, Stamps
from tests.evidence.workbench import Workbench

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

LVM, EMBEDDING, MEASURES, ALIGN, RESNET, PIXELS = (
    "our LVM", "our LVM, its embedding alone", "measures alone", "GalaxAlign", "ResNet18",
    "pixels, principal components",
)  # fmt: skip
"""The first is what the label app sees, with measures and answers; ResNet18's are made alike."""

VIEW = View(measured=True, rings=True, told=True)
PARTS = {
    EMBEDDING: slice(None, -len(VIEW.columns)),
    MEASURES: slice(-len(VIEW.columns), -len(TOLD_COLUMNS)),
}
"""Columns of what the label app sees."""

COMPONENTS = 64
ALIGNED_SOURCE = "gz2"
"""Whose classes GalaxAlign is taught: of these galaxies it knows more than a search may."""


@dataclass(frozen=True)
class FeatureSize:
    """How the networks are trained.

    Attributes
    ----------
    own, resnet
        Pre-training of our network and of ResNet18, on the same stamps and the same question; None leaves ResNet18's
        features out.
    align
        The stage's settings; None leaves GalaxAlign's out.
    """

    own: Pretraining
    resnet: Pretraining | None
    align: AlignSettings | None


class FeatureMaker:
    """Makes vectors of stamps, with networks that are trained when first asked for.

    Parameters
    ----------
    stamps, rows
        What the networks are trained on.
    """

    def __init__(self, bench: Workbench, stamps: Stamps, rows: Rows, size: FeatureSize, threads: int) -> None:
        self.bench, self.stamps, self.rows, self.size, self.threads = bench, stamps, rows, size, threads
        self._embedders: dict[str, Callable[[Tensor], Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the kinds of features."""
        left_out = {name for name, size in ((ALIGN, self.size.align), (RESNET, self.size.resnet)) if size is None}
        return tuple(name for name in (LVM, EMBEDDING, MEASURES, ALIGN, RESNET, PIXELS) if name not in left_out)

    def features(self, name: str, stamps: Stamps, of: str) -> Vectors:
        """(N, D) of all stamps: from an earlier run of the same code, or made now.

        Parameters
        ----------
        of
            Names the stamps.
        """
        if name in PARTS:
            return self.features(LVM, stamps, of)[:, PARTS[name]]
        path = self._path(name, stamps, of)
        known = sorted(path.parent.glob(f"{path.name.rsplit('-', 1)[0]}-*.npy"))  # of other code as well
        if known and self.bench.keep:
            path = known[-1]
        if not path.exists():
            self.bench.say(f"making features of {len(stamps.images)} stamps ({of}): {name}")
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, self._make(name, stamps))
            unfinished.replace(path)
        return np.asarray(np.load(path, mmap_mode="r"))

    def _path(self, name: str, stamps: Stamps, of: str) -> Path:
        trainings = [asdict(how) if how else None for how in (self.size.own, self.size.resnet)]
        networks = canonical_digest([*trainings, simulator_digest()])[:8]
        size = f"{networks}-{self.bench.code}"
        return self.bench.folder / f"features-{_slug(name)}-{of}-{len(stamps.images)}-{size}.npy"

    def _make(self, name: str, stamps: Stamps) -> Vectors:
        embed = self._embedder(name)
        with torch.inference_mode():
            parts = np.array_split(np.arange(len(stamps.images)), max(1, len(stamps.images) // 128))
            return torch.cat([embed(network_input(stamps, part)).float() for part in parts]).numpy()

    def _embedder(self, name: str) -> Callable[[Tensor], Tensor]:
        """RGB (n, 3, h, w) to (n, D)."""
        if name not in self._embedders:
            self._embedders[name] = self._new_embedder(name)
        return self._embedders[name]

    def _new_embedder(self, name: str) -> Callable[[Tensor], Tensor]:
        if name == PIXELS:
            scheme = make_pipeline(StandardScaler(), PCA(COMPONENTS, random_state=0, svd_solver="randomized"))
            scheme.fit(_small(network_input(self.stamps, self.rows)).numpy())
            return lambda rgb: torch.from_numpy(scheme.transform(_small(rgb).numpy()))
        if name == ALIGN:
            assert self.size.align is not None
            return aligned(self.bench, self.stamps, self.rows, self._lvm(self.size.own), self.size.align).encode_images
        how = self.size.resnet if name == RESNET else self.size.own
        assert how is not None
        network = self._lvm(how)
        return lambda rgb: VIEW.of_stamps(network, rgb)

    def _lvm(self, how: Pretraining) -> GalaxyLVM:
        return pretrained(self.bench, self.stamps, self.rows, how, self.threads)


def aligned(bench: Workbench, stamps: Stamps, rows: Rows, lvm: GalaxyLVM, settings: AlignSettings) -> GalaxAlign:
    """GalaxAlign on the pre-trained network, taught the five classes of Galaxy Zoo 2 as the stage `align` does it."""
    codes = five_codes(stamps)
    rows = rows[codes[rows] >= 0]
    with torch.random.fork_rng():
        torch.manual_seed(step_seed(settings.seed, -1))
        network = GalaxAlign(LvmTower(lvm), settings.embedding_size, {"gz2_class": FIVE})
    weights = PairWeights(settings.image_text, settings.image_symbol, settings.symbol_text)

    def to_rgb(images: Tensor, generator: torch.Generator) -> Tensor:
        return augmented_input(images, "rgb", INPUTS, Augmentation(), generator)

    def batches(first: int) -> Iterator[dict[str, Any]]:
        number = first
        while True:
            drawn = np.random.default_rng([settings.seed, number]).choice(rows, settings.batch_size)
            images, classes = torch.from_numpy(stamps.images[drawn]), torch.from_numpy(codes[drawn])
            yield {"images": images, "rows": torch.from_numpy(drawn), "classes": classes, "table": "gz2_class"}
            number += 1

    for stage, steps in ((1, settings.stage1_steps), (2, settings.steps(len(rows)))):
        bench.say(f"GalaxAlign, stage {stage}: {steps} steps on {len(rows)} labelled stamps")
        objective = AlignObjective(network, stage, to_rgb, weights, settings.image_rate, settings.layer_decay)
        fit(
            objective,
            batches,
            steps=steps,
            folder=bench.folder / f"align-{bench.code}" / f"stage{stage}",
            checkpoint_steps=100,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            seed=settings.seed + stage,
            threads=torch.get_num_threads(),
        )
        objective.release()
    return network.eval()


def _small(rgb: Tensor) -> Tensor:
    """(n, 3 x 16 x 16): averaged over 4 x 4 pixels."""
    return torch.nn.functional.avg_pool2d(rgb, 4).flatten(1)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
