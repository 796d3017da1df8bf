"""The pictures that the lens finder learns from: real and simulated lenses, arcs put onto galaxies, and galaxies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_models.injection import Injected, SurveyLook, inject_display, inject_flux, survey_look
from galaxy_models.inputs import InputSpec
from galaxy_models.simulation.lensing import lensed_arc
from tasks.train.lens_tables import LensTable

LOOK_STAMPS = 60
"""Stamps that sharpness and colours are measured on."""

UNKNOWN_SCALE_FWHM = 1.2
"""Where no pixel scale is known, the PSF is taken to be this wide, arcsec, as in ground-based surveys."""

REAL_SHARE = {True: 0.5, False: 0.25}
"""Of the images with a lens in a batch, those that are the table's own, by whether their boxes are known; the others
have an injected arc. Without boxes a real lens teaches nothing about where the arc is."""

REDDEST_SHARE = 0.5
"""Lenses are massive old galaxies: of the stamps without a lens, this share with the reddest middles get arcs."""


@dataclass(frozen=True)
class Scene:
    """One raw stamp (C, H, W), the mask (H, W) of its arc, whether that is known, whether it is a lens, and its row."""

    stamp: NDArray[np.float32]
    mask: NDArray[np.bool_]
    boxed: bool
    lens: bool
    row: int


class LensScenes:
    """Scenes of one label table and split.

    Parameters
    ----------
    table
        Its lenses and others.
    lenses, others
        Catalogue rows, and their raw stamps (n, C, H, W), `others` in the same order.
    arcs
        Number of different arcs; arc i is a function of `seed` and i alone.
    """

    def __init__(
        self,
        table: LensTable,
        inputs: InputSpec,
        units: str,
        lenses: tuple[NDArray[np.int64], NDArray[Any]],
        others: tuple[NDArray[np.int64], NDArray[Any]],
        arcs: int,
        seed: int,
    ) -> None:
        self.table, self.inputs, self.units = table, inputs, units
        self.lens_rows, self.lens_stamps = lenses
        self.other_rows, self.other_stamps = others
        self.arcs, self.seed = arcs, seed
        rgb = np.concatenate([self._rgb(stamp[None]) for stamp in self.other_stamps])
        # Fluxes with a known PSF need no measuring.
        known = units == "nanomaggy" and bool(table.psf_fwhm) and bool(np.isfinite(table.pixel_scale))
        self.look: SurveyLook | None = None if known else survey_look(rgb[:LOOK_STAMPS])
        self.hosts = reddest(rgb, REDDEST_SHARE)
        self.pixel_scale = table.pixel_scale
        if self.look is not None and not np.isfinite(table.pixel_scale):
            self.pixel_scale = UNKNOWN_SCALE_FWHM / self.look.psf_fwhm
        self._arc = lru_cache(maxsize=256)(self._draw_arc)

    def real(self, place: int) -> Scene:
        """A lens of the table itself."""
        stamp, row = self._raw(self.lens_stamps[place]), int(self.lens_rows[place])
        if self.table.masks is None:
            return Scene(stamp, np.zeros(stamp.shape[1:], dtype=bool), boxed=False, lens=True, row=row)
        return Scene(stamp, self.table.masks[row], boxed=True, lens=True, row=row)

    def other(self, place: int) -> Scene:
        """A stamp without a lens."""
        stamp, row = self._raw(self.other_stamps[place]), int(self.other_rows[place])
        return Scene(stamp, np.zeros(stamp.shape[1:], dtype=bool), boxed=True, lens=False, row=row)

    def injected(self, generator: np.random.Generator) -> Scene:
        """An arc around one of the reddest stamps without a lens."""
        host = int(self.hosts[generator.integers(len(self.hosts))])
        stamp = self._raw(self.other_stamps[host])
        turns, mirrored = int(generator.integers(4)), bool(generator.integers(2))
        arc = np.rot90(self._arc(int(generator.integers(self.arcs))), turns, (1, 2))
        arc = arc[:, :, ::-1] if mirrored else arc
        if self.units == "nanomaggy":
            made: Injected = inject_flux(stamp, arc)
        else:
            assert self.look is not None  # always measured on pictures
            peak = self.look.peaks[generator.integers(len(self.look.peaks))]
            made = inject_display(stamp, arc[0], peak)
        return Scene(made.image, made.mask, boxed=True, lens=True, row=int(self.other_rows[host]))

    def draw(self, generator: np.random.Generator, lens: bool) -> Scene:
        """A scene with or without a lens."""
        if not lens:
            return self.other(int(generator.integers(len(self.other_stamps))))
        if generator.uniform() < REAL_SHARE[self.table.masks is not None]:
            return self.real(int(generator.integers(len(self.lens_stamps))))
        return self.injected(generator)

    def psf_fwhm(self, band: str) -> float:
        """Arcsec: what the catalogue says of the band, or what was measured on the pictures."""
        if self.look is None:
            return self.table.psf_fwhm[band]
        return self.table.psf_fwhm.get(band, self.look.psf_fwhm * self.pixel_scale)

    def _draw_arc(self, index: int) -> NDArray[np.float32]:
        """(C, H, W) nanomaggies for flux stamps; (1, H, W) of any unit for pictures."""
        generator = np.random.default_rng([self.seed, index])
        size = int(self.other_stamps.shape[-1])
        ellipticity, angle = 0.3 * generator.beta(2, 3), generator.uniform(0, 2 * np.pi)
        shape = (float(ellipticity * np.cos(angle)), float(ellipticity * np.sin(angle)))
        bands: tuple[str, ...]
        radius: float | None = None
        if self.units == "nanomaggy":
            bands = self.inputs.bands
            widths = [self.psf_fwhm(band) for band in bands]
        else:
            # Found in pictures by people: from rings just resolved up to arcs around groups of galaxies.
            bands, widths = ("g",), [self.psf_fwhm("")]
            largest = max(1.5, min(6.0, 0.35 * self.inputs.crop * self.pixel_scale))
            radius = float(np.exp(generator.uniform(np.log(1.2), np.log(largest))))
        return lensed_arc(
            generator,
            size=size,
            pixel_scale=self.pixel_scale,
            psf_fwhm=widths,
            bands=bands,
            einstein_radius=radius,
            deflector_ellipticity=shape,
        ).flux

    def _raw(self, stamp: NDArray[Any]) -> NDArray[np.float32]:
        """Nanomaggies, or RGB in 0..1, as float32."""
        values = stamp.astype(np.float32)
        return np.asarray(values / 255 if stamp.dtype == np.uint8 else values, dtype=np.float32)

    def _rgb(self, stamps: NDArray[Any]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(np.ascontiguousarray(stamps))
        return np.asarray(self.inputs.to_rgb(tensor, self.units).numpy(), dtype=np.float32)


def reddest(rgb: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Places of the share of (N, 3, H, W) whose middle is reddest: R over B in the central twelfth of the side."""
    size = rgb.shape[-1]
    half = max(2, size // 24)
    middle = rgb[:, :, size // 2 - half : size // 2 + half, size // 2 - half : size // 2 + half].mean(axis=(2, 3))
    colour = (middle[:, 0] - middle[:, 2]) / np.maximum(middle.sum(axis=1), 1e-3)
    order = np.argsort(-colour, kind="stable")
    return order[: max(1, round(share * len(order)))]


def batches_from(scenes: list[LensScenes], batch_size: int, seed: int, start: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of steps `start`, `start + 1`, ...; each is a function of seed and step alone.

    Half of a batch are lenses. All images of a batch are of one table, the tables take turns: lens and other always
    come from the same survey.
    """
    step = start
    while True:
        generator = np.random.default_rng([seed, step])
        table = scenes[step % len(scenes)]
        drawn = [table.draw(generator, lens=i < batch_size // 2) for i in range(batch_size)]
        yield collate(drawn)
        step += 1


def collate(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Tensors `stamps` (B, C, H, W) float32, `masks` (B, H, W), `boxed` and `lens` (B,) bool, and `rows` (B,)."""
    return {
        "stamps": torch.from_numpy(np.stack([scene.stamp for scene in scenes])),
        "masks": torch.from_numpy(np.stack([scene.mask for scene in scenes])),
        "boxed": torch.tensor([scene.boxed for scene in scenes]),
        "lens": torch.tensor([scene.lens for scene in scenes]),
        "rows": torch.tensor([scene.row for scene in scenes]),
    }
