"""Simulated galaxies as a source of stamps: truth from seeds alone, pixels when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from galaxy_models.simulation.galaxy import BANDS, FEATURED_DISK
from galaxy_models.simulation.questions import QUESTIONS
from galaxy_models.simulation.scene import SimulatedObject, draw_object, draw_stamp
from galaxy_models.simulation.volunteers import draw_votes
from infra.errors import GalaxyError
from tasks.ingest.source_kinds import SimulatedSource
from tasks.ingest.source_table import Batch
from tasks.stamps.stamp import Refusal, Stamp

BATCH = 20_000
"""Galaxies whose truth is drawn together."""


class SimulatedGalaxies:
    """Galaxies drawn by GalSim; object i of a source is the same whoever draws it, and when.

    Raises
    ------
    GalaxyError
        If a band has no simulated colours.
    """

    table = None

    def __init__(self, source: SimulatedSource, stamp_size: int, bands: tuple[str, ...]) -> None:
        unknown = [band for band in bands if band not in BANDS]
        if unknown:
            raise GalaxyError(
                f"source {source.name}: simulated galaxies have colours in the bands {', '.join(BANDS)}, not in "
                f"{', '.join(unknown)}; correct `bands` in the survey definition"
            )
        if source.lens_rate + source.merger_rate > 1:
            raise GalaxyError(
                f"source {source.name}: `lens_rate` {source.lens_rate} and `merger_rate` {source.merger_rate} "
                "add up to more than 1; lower one of them"
            )
        self.source = source
        self.stamp_size = stamp_size
        self.bands = bands

    def rows(self) -> pd.DataFrame:
        """Identity, observation and truth of every object; nothing is drawn.

        `class` is None for the few disks that are neither smooth nor spiral. Votes are fractions of a question's own
        answers, `<question>_<answer>`, NaN where nobody was asked. `has_arc` is 1 for lenses and 0 for all others.
        """
        return pd.concat(batch.rows for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """See Streaming."""
        for first in range(0, self.source.count, BATCH):
            numbers = range(first, min(first + BATCH, self.source.count))
            yield Batch(pd.DataFrame([self._row(number) for number in numbers], index=numbers))

    def files(self) -> None:
        """See StampSource: there are none."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: nothing, the definition says it all."""
        return {}

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """Draw the stamps of some rows, float16 nanomaggies; `lens_mask` is the arc's mask in bits, None without."""
        stamps: list[Stamp | Refusal] = []
        for name in rows["object_id"]:
            stamp = draw_stamp(self._object(self._index(name)), self.stamp_size)
            mask = None if stamp.lens_mask is None else np.packbits(stamp.lens_mask).tobytes()
            stamps.append(Stamp(stamp.flux.astype(np.float16), {"lens_mask": mask}))
        return stamps

    def _object(self, index: int) -> SimulatedObject:
        source = self.source
        return draw_object(
            source.seed,
            index,
            bands=self.bands,
            pixel_scale=source.pixel_scale,
            lens_rate=source.lens_rate,
            merger_rate=source.merger_rate,
        )

    def _index(self, name: str) -> int:
        prefix, _, number = name.rpartition("-")
        if prefix != self.source.name or not number.isdigit() or int(number) >= self.source.count:
            raise GalaxyError(
                f"source {self.source.name} has no object {name!r}; its objects are {self.source.name}-00000000 to "
                f"{self.source.name}-{self.source.count - 1:08d}"
            )
        return int(number)

    def _row(self, index: int) -> dict[str, Any]:
        simulated = self._object(index)
        galaxy, conditions = simulated.galaxy, simulated.conditions
        ellipticity = (1 - galaxy.axis_ratio) / (1 + galaxy.axis_ratio)
        twice = 2 * np.deg2rad(galaxy.position_angle)
        disk = galaxy.disk if not galaxy.disturbance else None
        arms, bar, ring = (None, None, None) if disk is None else (disk.arms, disk.bar, disk.ring)
        disturbed = bool(galaxy.disturbance)
        row: dict[str, Any] = {
            "object_id": f"{self.source.name}-{index:08d}",
            "ra": simulated.ra,
            "dec": simulated.dec,
            "kind": galaxy.kind,
            "class": None if galaxy.kind == FEATURED_DISK else galaxy.kind,
            "disturbance": galaxy.disturbance,
            "redshift": galaxy.redshift,
            "half_light_radius": galaxy.half_light_radius,
            "axis_ratio": galaxy.axis_ratio,
            "position_angle": np.nan if disturbed else galaxy.position_angle,
            "e1": ellipticity * np.cos(twice),
            "e2": ellipticity * np.sin(twice),
            "sersic_index": galaxy.sersic_index,
            "bulge_fraction": np.nan if disturbed else galaxy.bulge_flux[1] / galaxy.flux("r"),
            "arm_count": 0 if arms is None else arms.count,
            "arm_pitch": np.nan if arms is None else arms.pitch,
            "arm_strength": 0.0 if arms is None else arms.strength,
            "bar_fraction": 0.0 if bar is None else bar.fraction,
            "ring_radius": np.nan if ring is None or disk is None else ring.radius * disk.scale_radius,
            "has_arc": float(simulated.einstein_radius is not None),
            "einstein_radius": np.nan if simulated.einstein_radius is None else simulated.einstein_radius,
            "signal_to_noise": simulated.signal_to_noise,
            "ebv": conditions.reddening,
        }
        for i, band in enumerate(conditions.bands):
            row[f"mag_{band}"] = galaxy.magnitude(band)
            row[f"psf_size_{band}"] = conditions.psf_fwhm[i]
            row[f"noise_{band}"] = conditions.noise[i]
            row[f"depth_{band}"] = conditions.depth(band)
        for question, votes in draw_votes(simulated).items():
            people = sum(votes.values())
            row[f"{question}_total_votes"] = people
            for answer in QUESTIONS[question]:
                row[f"{question}_{answer}"] = votes[answer] / people if people else np.nan
        return row
