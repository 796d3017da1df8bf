"""The multi-task network: one shared encoder-decoder, a head per label table, restoration and reconstruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .aperture_photometry import aperture_photometry, direction_size, photometry_size
from .card import CardError, ModelCard
from .degradation import Degradation
from .ellipticity import turned_at_the_end
from .flux_restoration import restore_flux
from .heads import ClassificationHead, ParameterHead, VotesHead
from .lvm import GalaxyLVM, architecture, from_architecture
from .photometric_head import PhotometricHead
from .pooling import mean_and_spread
from .seen import Seen
from .volunteer_answers import PLACES, UNLIKELY, said_by_answers
from .votes import concentrations, fractions_with_spread

KINDS = ("classes", "votes", "values")

DISPLAY, FLUX = "display", "flux"
"""What a network has learnt to restore: pictures, or fluxes whose blur and noise are known."""

SCALE_OF_PICTURES = "sigma_scale_of_pictures"
"""Of the calibration of a table of values: the factors on sigma where a network that knows fluxes is given none."""

FLUX_LEVEL = 10.0
"""A stretched flux (`flux_restoration.stretch`) of so many times the noise's spread is shown as one: sky is then as
faint, and a galaxy's core as bright, as in the pictures that the encoder knows."""


@dataclass(frozen=True)
class HeadScheme:
    """What one head answers.

    Attributes
    ----------
    table, source
        Name of the label table, and of the source whose objects it labels.
    kind
        `classes`, `votes` or `values`.
    names
        Classes, questions or parameters, in the order of the outputs.
    answers
        For `votes`: the answers of each question.
    """

    table: str
    source: str
    kind: str
    names: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values; lists keep the order, which a card's sorted keys would not."""
        content = {"table": self.table, "source": self.source, "kind": self.kind, "names": list(self.names)}
        return {**content, "answers": [list(answers) for answers in self.answers]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeadScheme:
        """Rebuild from JSON; raises CardError if a key is missing or the kind is unknown."""
        try:
            answers = tuple(tuple(answers) for answers in content["answers"])
            scheme = cls(content["table"], content["source"], content["kind"], tuple(content["names"]), answers)
        except KeyError as error:
            raise CardError(f"a head of the label scheme lacks the key {error}") from None
        if scheme.kind not in KINDS:
            raise CardError(f"head {scheme.table!r} is of kind {scheme.kind!r}; known are {list(KINDS)}")
        return scheme

    @property
    def questions(self) -> list[tuple[str, tuple[str, ...]]]:
        """For `votes`: each question with its answers."""
        return list(zip(self.names, self.answers, strict=True))


class RestorationHead(nn.Module):
    """Convolutions from the decoder's picture of a degraded image, and that image, to a correction of it.

    The image comes in at full resolution because the encoder's first act, patches of 4 x 4 pixels, loses detail. The
    size was chosen on simulated fluxes, 300 steps of one seed on `nano`: 48 channels restore to 37.8 dB, 32 to 37.5,
    with a third layer in the middle as well; 16 with one layer to 36.6, or 36.7 from initial weights of He et al.
    (2015).
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, width, 5, padding=2)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(width, 3, 5, padding=2)
        self.activation = nn.GELU()
        for layer in (self.first, *self.middle):
            nn.init.kaiming_normal_(cast(Tensor, layer.weight), nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
        # untrained, the restored image is the degraded one
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, degraded: Tensor, decoded: Tensor) -> Tensor:
        """Two (N, 3, h, w) to the correction (N, 3, h, w)."""
        features = self.activation(self.first(torch.cat([degraded, decoded], dim=1)))
        for layer in self.middle:
            features = self.activation(layer(features))
        return cast(Tensor, self.last(features))


class Heads(nn.ModuleDict):
    """Heads by label table, which may be called as one of the dictionary's methods is, such as `values`."""

    def __setitem__(self, table: str, head: nn.Module) -> None:
        self._modules[table] = head


class MultiTaskNetwork(nn.Module):
    """A large vision model with heads.

    Parameters
    ----------
    lvm
        Encoder and decoder, shared by all tasks.
    schemes
        One head each; tables must differ.
    calibration
        By table: `temperature` for classes; `sigma_scale` by question for votes, by parameter for values, with
        `SCALE_OF_PICTURES` beside it. What is missing counts as one.
    restores
        `display` or `flux`: whether `restore` or `restore_flux` is what it learns.
    photometry_bands
        Bands of the fluxes that its heads of parameters read photometry of; 0 for a network of pictures, whose
        parameters come from the picture alone.
    """

    def __init__(
        self,
        lvm: GalaxyLVM,
        schemes: Sequence[HeadScheme],
        calibration: Mapping[str, Any] | None = None,
        restores: str = DISPLAY,
        photometry_bands: int = 0,
    ) -> None:
        super().__init__()
        self.lvm = lvm
        self.restores = restores
        self.photometry_bands = photometry_bands
        self.schemes = tuple(schemes)
        self.calibration = dict(calibration or {})
        features = 2 * sum(lvm.channels)
        self.norm = nn.LayerNorm(features)
        told = lvm.answers is not None
        self.heads = Heads({scheme.table: _head(scheme, features, told, photometry_bands) for scheme in self.schemes})
        if len(self.heads) != len(self.schemes):
            raise ValueError(f"tables must differ, not {[scheme.table for scheme in self.schemes]}")
        self.restoration = RestorationHead()
        self.columns = column_names(self.schemes)

    def features(self, rgb: Tensor) -> Tensor:
        """What all heads read: mean and spread over the image of every channel of all four encoder maps.

        Parameters
        ----------
        rgb
            (N, 3, h, w) in 0..1.

        Returns
        -------
        Tensor
            (N, D) float32. Fine maps tell of arms and edges, which are gone from the last one; the spread tells how
            light is spread out. Chosen after one short trial against the last map's mean alone, with one seed: a
            better macro AUC on Galaxy Zoo 2, but by little more than the scatter of so few test galaxies. Last come
            the log-chances of volunteers' answers, where the large vision model tells them.
        """
        pooled = mean_and_spread(self.lvm.encode(rgb))
        with torch.autocast(rgb.device.type, enabled=False):
            seen = cast(Tensor, self.norm(pooled))
            if self.lvm.answers is None:
                return seen
            return torch.cat([seen, self.lvm.tell(pooled).clamp_min(UNLIKELY)], dim=1)

    def see(self, rgb: Tensor, flux: Tensor | None = None, angle: Tensor | None = None) -> Seen:
        """All that heads read.

        Parameters
        ----------
        rgb
            (N, 3, h, w) in 0..1.
        flux
            (N, C, H, H) nanomaggies that the pictures were made of; None where they are unknown.
        angle
            (N,) degrees by which the pictures are turned against the fluxes, see `augment.Geometry`; None for none.
        """
        if not self.photometry_bands or flux is None:
            return Seen(self.features(rgb))
        photometry = aperture_photometry(flux)
        if angle is not None:
            count = direction_size(self.photometry_bands)
            photometry = turned_at_the_end(photometry, count, angle, south_first=True)
        return Seen(self.features(rgb), photometry)

    def restore(self, rgb: Tensor) -> Tensor:
        """A blurred, noisy (N, 3, h, w) to its restoration: the image plus a learnt correction, not clipped."""
        # standardised as the network's own input is: faint noise must be seen to be taken away
        mean = cast(Tensor, self.lvm.rgb_mean).view(1, 3, 1, 1)
        spread = cast(Tensor, self.lvm.rgb_spread).view(1, 3, 1, 1)
        correction: Tensor = self.restoration((rgb - mean) / spread, (self.lvm(rgb) - mean) / spread)
        return rgb + correction.float()

    def restore_flux(self, flux: Tensor, degradation: Degradation, side: int | None = None) -> Tensor:
        """Fluxes under a known blur and noise to sharper ones; see `flux_restoration.restore_flux`.

        Parameters
        ----------
        flux
            (N, 3, h, w) nanomaggies, blue to red; the reddest band is shown as R, as in pictures.
        side
            Of the square in the middle that is wanted, pixels.

        Returns
        -------
        Tensor
            (N, 3, h, w), or (N, 3, side, side), float32 nanomaggies. An untrained network leaves what deconvolution
            makes of them.
        """

        def corrected(values: Tensor) -> Tensor:
            return (self.restore(values.flip(1) / FLUX_LEVEL) * FLUX_LEVEL).flip(1)

        return restore_flux(corrected, flux, degradation, side)

    def reconstruct(self, rgb: Tensor, hidden: Tensor) -> Tensor:
        """(N, 3, h, w) and the (N, 1, h, w) bool of hidden pixels to the whole image (N, 3, h, w)."""
        return cast(Tensor, self.lvm(rgb, hidden))

    def forward(self, rgb: Tensor) -> dict[str, Any]:
        """(N, 3, h, w) to each head's raw output, by table; of parameters, what the picture alone tells."""
        features = self.features(rgb)
        return {table: head(features) for table, head in self.heads.items()}

    @torch.inference_mode()
    def predict_columns(self, rgb: Tensor, border: int = 0, flux: Tensor | None = None) -> dict[str, np.ndarray]:
        """Every head's answer, calibrated.

        Parameters
        ----------
        rgb, flux
            See `see`.

        Returns
        -------
        dict
            `p_<class>` (sum one per table), `votes_<question>_<answer>` and `<parameter>`, the last two with
            `..._sigma`; each (N,) float32. A name that two tables would share carries the table's name as well.
        """
        seen = self.see(rgb, flux)
        answer: dict[str, np.ndarray] = {}
        for scheme in self.schemes:
            values = self._answers(scheme, seen)
            for name, column in zip(self.columns[scheme.table], values.T, strict=True):
                answer[name] = column
        return answer

    def _answers(self, scheme: HeadScheme, seen: Seen) -> np.ndarray:
        """(N, columns of the table) float32, in the order of `column_names`."""
        head, calibration = self.heads[scheme.table], self.calibration.get(scheme.table, {})
        if isinstance(head, ClassificationHead):
            table = torch.softmax(head(seen.pooled) / float(calibration.get("temperature", 1.0)), dim=1)
        elif isinstance(head, VotesHead):
            pairs = []
            for question, output in head(seen.pooled).items():
                fraction, sigma = fractions_with_spread(concentrations(output))
                scale = float(calibration.get("sigma_scale", {}).get(question, 1.0))
                pairs.append(torch.stack([fraction, sigma * scale], dim=2).flatten(1))
            table = torch.cat(pairs, dim=1)
        else:
            value, sigma = cast(ParameterHead, head).predict(seen)
            of_pictures = isinstance(head, PhotometricHead) and seen.photometry is None
            scales = calibration.get(SCALE_OF_PICTURES if of_pictures else "sigma_scale", {})
            factor = sigma.new_tensor([float(scales.get(name, 1.0)) for name in scheme.names])
            table = torch.stack([value, sigma * factor], dim=2).flatten(1)
        return table.float().cpu().numpy()


def column_names(schemes: Sequence[HeadScheme]) -> dict[str, list[str]]:
    """The columns of each table, unique over all tables; a name that would clash carries its table's name."""
    plain = {scheme.table: _columns(scheme, "") for scheme in schemes}
    seen = Counter(name for names in plain.values() for name in names)
    result = {}
    for scheme in schemes:
        clash = any(seen[name] > 1 for name in plain[scheme.table])
        result[scheme.table] = _columns(scheme, f"{scheme.table}_") if clash else plain[scheme.table]
    return result


def build(card: ModelCard) -> MultiTaskNetwork:
    """The untrained network of a card of kind `morphology`; its calibration comes from the card."""
    try:
        lvm = from_architecture(card.architecture["lvm"])
        schemes = [HeadScheme.from_dict(content) for content in card.labels["heads"]]
    except KeyError as error:
        raise CardError(f"the card of {card.name} lacks {error}; it is none of a multi-task network") from None
    restores, bands = card.architecture.get("restores", DISPLAY), card.architecture.get("photometry_bands", 0)
    return MultiTaskNetwork(lvm, schemes, card.calibration, restores, bands)


def describe(network: MultiTaskNetwork) -> tuple[dict[str, Any], dict[str, Any]]:
    """A card's `architecture` and `labels` of the network, from which `build` makes it again."""
    content = {
        "kind": "morphology",
        "lvm": architecture(network.lvm),
        "restores": network.restores,
        "photometry_bands": network.photometry_bands,
    }
    return content, {"heads": [scheme.to_dict() for scheme in network.schemes]}


def _head(scheme: HeadScheme, features: int, told: bool, photometry_bands: int) -> nn.Module:
    features += len(PLACES) if told else 0
    if scheme.kind == "classes":
        return ClassificationHead(features, scheme.names, prior=said_by_answers(scheme.names) if told else None)
    if scheme.kind == "votes":
        return VotesHead(features, scheme.questions)
    if not photometry_bands:
        return ParameterHead(features, scheme.names)
    size, directions = photometry_size(photometry_bands), direction_size(photometry_bands)
    return PhotometricHead(features, scheme.names, size, directions)


def _columns(scheme: HeadScheme, prefix: str) -> list[str]:
    if scheme.kind == "classes":
        return [f"p_{prefix}{name}" for name in scheme.names]
    if scheme.kind == "votes":
        names = [f"votes_{prefix}{question}_{answer}" for question, answers in scheme.questions for answer in answers]
    else:
        names = [f"{prefix}{name}" for name in scheme.names]
    return [column for name in names for column in (name, f"{name}_sigma")]
