"""A brick of the Legacy Surveys' DR9: where it lies, how it was observed, and what headers and tables say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from galaxy_models.photometry import ZERO_POINT
from galaxy_models.simulation.galaxy import BANDS
from galaxy_models.simulation.observing import SURVEY_PIXEL, Conditions, draw_conditions
from galaxy_models.simulation.population import EXTINCTION

Float = NDArray[np.floating[Any]]

RELEASE = 9010
"""Of DR9's southern bricks."""


TRUE_SIDE, TRUE_STEP = 3600, 0.25
TILE = 100


@dataclass(eq=False)
class Brick:
    number: int
    seed: int
    name: str
    row: int
    column: int
    ra: float
    dec: float
    ra1: float
    ra2: float
    dec1: float
    dec2: float
    side: int
    conditions: Conditions
    exposures: dict[str, int]
    holes: list[str]

    @property
    def brickid(self) -> int:
        return 330000 + self.number

    @cached_property
    def wcs(self) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [(self.side + 1) / 2] * 2
        wcs.wcs.cd = np.diag([-SURVEY_PIXEL / 3600, SURVEY_PIXEL / 3600])
        return wcs

    @cached_property
    def header(self) -> fits.Header:
        """The survey's keys, but for those of software, machine and time of processing, and of observing dates."""
        header = fits.Header()
        header["LSDR"] = ("DR9", "Data release number")
        header["SURVEY"] = ("DECaLS+BASS+MzLS", "The LegacySurveys")
        header["SURVEYID"] = ("DECaLS BASS MzLS", "Survey names")
        header["DRVERSIO"] = (RELEASE, "LegacySurveys Data Release number")
        header["OBSTYPE"] = ("object", "Observation type")
        header["PROCTYPE"] = ("tile", "Processing type")
        header["BRICK"] = (self.name, "LegacySurveys brick RRRr[pm]DDd")
        header["BRICKID"] = (self.brickid, "LegacySurveys brick id")
        header["RAMIN"] = (self.ra1, "Brick RA min (deg)")
        header["RAMAX"] = (self.ra2, "Brick RA max (deg)")
        header["DECMIN"] = (self.dec1, "Brick Dec min (deg)")
        header["DECMAX"] = (self.dec2, "Brick Dec max (deg)")
        hours, degrees = Angle(self.ra, "deg"), Angle(self.dec, "deg")
        header["RA"] = (hours.to_string("hourangle", sep=":", precision=3, pad=True), "Brick center RA (hms)")
        header["DEC"] = (degrees.to_string(sep=":", precision=3, pad=True, alwayssign=True), "Brick center DEC (dms)")
        header["CENTRA"] = (self.ra, "Brick center RA (deg)")
        header["CENTDEC"] = (self.dec, "Brick center Dec (deg)")
        for number, corner in enumerate([(0, 0), (1, 0), (1, 1), (0, 1)], start=1):
            ra, dec = self.wcs.pixel_to_world_values(*((self.side - 1) * np.array(corner)))
            header[f"CORN{number}RA"] = (float(ra), "Brick corner RA (deg)")
            header[f"CORN{number}DEC"] = (float(dec), "Brick corner Dec (deg)")
        seen = [band for band in self.conditions.bands if self.exposures[band]]
        for band in self.conditions.bands:
            header[f"BRICK_{band.upper()}"] = (band in seen, f"Does band {band} touch this brick?")
        header["BANDS"] = ("".join(seen), "Bands touching this brick")
        header["NBANDS"] = (len(seen), "Number of bands in this catalog")
        return header

    def psf_fwhm(self, band: str) -> float:
        return self.conditions.psf_fwhm[self.conditions.bands.index(band)]

    def noise(self, band: str) -> float:
        return self.conditions.noise[self.conditions.bands.index(band)]

    def pixels(self, objects: pd.DataFrame) -> tuple[Float, Float]:
        """Zero-based columns and rows of objects on the images, which they may lie outside of."""
        x, y = self.wcs.world_to_pixel_values(objects["ra"].to_numpy(), objects["dec"].to_numpy())
        return x, y

    def owns(self, ra: Float, dec: Float) -> NDArray[np.bool_]:
        return (self.ra1 <= ra) & (ra < self.ra2) & (self.dec1 <= dec) & (dec < self.dec2)

    def own_pixels(self) -> NDArray[np.bool_]:
        """`owns` of all pixels by the tangent projection's formulae, in tangents: a tenth of the time by `WCS`."""
        east = -(np.arange(self.side) - (self.side - 1) / 2)[None, :] * np.deg2rad(SURVEY_PIXEL / 3600)
        north = -east.T
        sin, cos = np.sin(np.deg2rad(self.dec)), np.cos(np.deg2rad(self.dec))
        out, up = cos - north * sin, sin + north * cos
        level = np.hypot(east, out)
        ra1, ra2, dec1, dec2 = np.tan(np.deg2rad([self.ra1 - self.ra, self.ra2 - self.ra, self.dec1, self.dec2]))
        return (ra1 * out <= east) & (east < ra2 * out) & (dec1 * level <= up) & (up < dec2 * level)

    def exposure_map(self, band: str) -> NDArray[np.int16]:
        """How often each pixel was exposed: once less in a strip, where a gap between the camera's chips was."""
        exposed = np.full((self.side, self.side), self.exposures[band], np.int16)
        if self.exposures[band] > 1:
            left = int(np.random.default_rng([self.seed, 4, self.number, BANDS.index(band)]).integers(self.side))
            exposed[:, left : left + self.side // 15] -= 1
        if band in self.holes:
            third = self.side // 3
            exposed[self.side // 6 : self.side // 6 + third, self.side // 6 : self.side // 6 + third] = 0
        return exposed


def lay_bricks(
    columns: int, rows: int, side: int, step: float, bands: Sequence[str], centre: tuple[float, float], seed: int
) -> list[Brick]:
    reach = side * SURVEY_PIXEL / 3600
    if reach <= step:
        raise ValueError(f"{side} pixels reach over {reach:.4f} degrees: give a smaller step than {step}")
    if 0 < side % TILE < 4:
        raise ValueError(f"a side of {side} pixels leaves tiles narrower than 4, which the survey has none of")
    step_ra = step / np.cos(np.deg2rad(centre[1]))
    bricks = []
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        east, north = column - (columns - 1) / 2, row - (rows - 1) / 2
        ra, dec = centre[0] + east * step_ra, centre[1] + north * step
        # Names say tenths of degrees: those of bricks narrower than the survey's are of the bricks it would have here.
        name_ra, name_dec = centre[0] + east * TRUE_STEP, centre[1] + north * TRUE_STEP
        sign = "p" if name_dec >= 0 else "m"
        generator = np.random.default_rng([seed, 0, number])
        bricks.append(
            Brick(
                number=number,
                seed=seed,
                name=f"{int(name_ra * 10 + 1e-6):04d}{sign}{int(abs(name_dec) * 10 + 1e-6):03d}",
                row=int((name_dec + 90) / TRUE_STEP + 0.5),
                column=int(name_ra / TRUE_STEP),
                ra=ra,
                dec=dec,
                # Each edge is the same number on both of its sides.
                ra1=centre[0] + (east - 0.5) * step_ra,
                ra2=centre[0] + (east + 0.5) * step_ra,
                dec1=centre[1] + (north - 0.5) * step,
                dec2=centre[1] + (north + 0.5) * step,
                side=side,
                conditions=draw_conditions(generator, bands, SURVEY_PIXEL),
                exposures={band: int(generator.integers(2, 6)) for band in bands},
                holes=[],
            )
        )
    return bricks


def reddening_at(ra: Float, dec: Float) -> Float:
    return 0.035 + 0.015 * np.sin(np.deg2rad(700 * ra)) * np.cos(np.deg2rad(900 * dec))


def brick_table(bricks: Sequence[Brick]) -> pd.DataFrame:
    rows = []
    for brick in bricks:
        bands, reddening = brick.conditions.bands, float(reddening_at(np.array(brick.ra), np.array(brick.dec)))
        # Here, unlike in tractor files, depth is the magnitude of a point source at five sigma.
        depth = {band: ZERO_POINT - 2.5 * np.log10(5 / np.sqrt(brick.conditions.depth(band))) for band in bands}
        row = {"brickname": brick.name, "ra": brick.ra, "dec": brick.dec}
        row |= {f"nexp_{band}": brick.exposures[band] for band in bands} | {"nobjs": 0}
        row |= {f"psfsize_{band}": brick.psf_fwhm(band) * (brick.exposures[band] > 0) for band in bands}
        row |= {f"psfdepth_{band}": depth[band] * (brick.exposures[band] > 0) for band in bands} | {"ebv": reddening}
        row |= {f"trans_{band}": 10 ** (-0.4 * EXTINCTION[band] * reddening) for band in bands}
        row |= {"brickid": brick.brickid, "ra1": brick.ra1, "ra2": brick.ra2, "dec1": brick.dec1, "dec2": brick.dec2}
        row |= {"area": (brick.ra2 - brick.ra1) * (brick.dec2 - brick.dec1) * np.cos(np.deg2rad(brick.dec))}
        # North of this the survey's other region is the primary one, in the north Galactic cap.
        row |= {"survey_primary": brick.dec < 32.375}
        row |= {"brickq": brick.row % 2 * 2 + brick.column % 2, "brickrow": brick.row, "brickcol": brick.column}
        rows.append(row)
    return pd.DataFrame(rows)
