"""Small brick trees of the Legacy Surveys' DR9, written from scenes of known galaxies as the survey writes them.

Layout, header keys, columns and compression are those of the survey's pipeline, legacypipe at tag DR9.6.7 (survey.py,
coadds.py, format_catalog.py, legacyanalysis/brick-summary.py): images are Rice-compressed in steps of 1e-4 nanomaggies
that keep zeros, inverse variances in steps of a sixteenth of their noise, and mask bits by HCOMPRESS.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import galsim
import numpy as np
import pandas as pd
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from galaxy_models.photometry import ZERO_POINT
from galaxy_models.simulation.galaxy import BANDS
from galaxy_models.simulation.lensing import MOFFAT_BETA
from galaxy_models.simulation.observing import SURVEY_PIXEL, Conditions, add_noise, draw_conditions
from galaxy_models.simulation.population import EXTINCTION

Float = NDArray[np.floating[Any]]

RELEASE = 9010
"""Of DR9's southern bricks."""

NOT_PRIMARY, BRIGHT_STAR = 0x1, 0x2
"""Of the mask bits: pixels that belong to a neighbouring brick, and pixels near a bright star."""

TRUE_SIDE, TRUE_STEP = 3600, 0.25
TILE = 100
COMPRESSION: dict[str, dict[str, Any]] = {
    "image": {
        "compression_type": "RICE_1",
        "quantize_level": -1e-4,  # below zero: the step itself, nanomaggies
        "quantize_method": fits.hdu.compressed.SUBTRACTIVE_DITHER_2,
        "dither_seed": fits.hdu.compressed.DITHER_SEED_CHECKSUM,
    },
    "invvar": {"compression_type": "RICE_1", "quantize_level": 16, "quantize_method": fits.hdu.compressed.NO_DITHER},
    "maskbits": {"compression_type": "HCOMPRESS_1"},
}
FILTERS = {
    "g": "g DECam SDSS c0001 4720.0 1520.0",
    "r": "r DECam SDSS c0002 6415.0 1480.0",
    "z": "z DECam SDSS c0004 9260.0 1520.0",
}
COLUMN_TYPES = {
    "release": "i2", "brickid": "i4", "brickname": "S8", "objid": "i4", "brick_primary": "?", "maskbits": "i2",
    "type": "S3", "ra": "f8", "dec": "f8", "nexp": "i2", "nobs": "i2", "nobjs": "i4",
    "ra1": "f8", "ra2": "f8", "dec1": "f8", "dec2": "f8", "survey_primary": "?",
}  # fmt: skip
"""Of the tables' columns, or of their first word; the others are float32."""


@dataclass(frozen=True, eq=False)
class BrickTree:
    """A tree of bricks, and the truth that it was drawn from.

    Attributes
    ----------
    root
        Stands for the survey's .../dr9/south.
    bricks
        A row a brick: the columns of survey-bricks-dr9-south.fits.gz, and brickq, brickrow and brickcol, which the
        survey has only in the table of all bricks on the sky.
    objects
        A row an object of each brick, as in the tractor files, and `source`, which is the same for the same object in
        two bricks. Fluxes are true, also where a band was not observed and the tractor file has 0.
    suffix
        Of image files: `.fits.fz` or `.fits`.
    """

    root: Path
    bricks: pd.DataFrame
    objects: pd.DataFrame
    suffix: str

    def image(self, brickname: str, product: str, band: str = "") -> Path:
        """Where `image`, `invvar` (of `band`) or `maskbits` of a brick lies, or would lie."""
        name = "-".join(["legacysurvey", brickname, product, band]).rstrip("-")
        return self.root / "coadd" / brickname[:3] / brickname / (name + self.suffix)

    def catalogue(self, brickname: str) -> Path:
        """Where a brick's tractor file lies."""
        return self.root / "tractor" / brickname[:3] / f"tractor-{brickname}.fits"

    def checksums(self, brickname: str) -> Path:
        """Where the list of a brick's files with their SHA-256 lies."""
        return self.root / "tractor" / brickname[:3] / f"brick-{brickname}.sha256sum"


def make_brick_tree(
    root: Path,
    *,
    columns: int = 2,
    rows: int = 2,
    side: int = 600,
    step: float = 0.0375,
    galaxies_per_brick: int = 40,
    seed: int = 0,
    bands: Sequence[str] = BANDS,
    compressed: bool = True,
    centre: tuple[float, float] = (150.0, 2.0),
    missing_bands: Sequence[tuple[int, str]] = (),
    holes: Sequence[tuple[int, str]] = (),
    bright_stars: Sequence[int] = (),
) -> BrickTree:
    """Neighbouring bricks of one scene; the same arguments make the same bytes.

    Parameters
    ----------
    root
        The folder to make the tree in.
    columns, rows
        Bricks along right ascension and declination. Brick number 0 has the least of both; columns are counted first.
    side, step
        Of a brick: pixels of its images, and degrees on the sky that are its own. The survey's are 3600 and 0.25.
    galaxies_per_brick
        Galaxies, on average, in a brick's own area; a quarter as many stars come on top.
    centre
        Of the whole tree: right ascension and declination, degrees.
    missing_bands
        (brick number, band) without any file.
    holes
        (brick number, band) with a square a third as wide as the brick, in its south-east, that was never exposed.
    bright_stars
        Numbers of bricks with a star of magnitude 11 in the middle of their south-western quarter, masked around it.

    Raises
    ------
    ValueError
        If images do not reach over the edges of their bricks, or a tile would be narrower than 4 pixels.
    """
    bricks = _lay_bricks(columns, rows, side, step, bands, centre, seed)
    for brick in bricks:
        brick.exposures.update({band: 0 for number, band in missing_bands if number == brick.number})
        brick.holes.extend(band for number, band in holes if number == brick.number)
    scene = _draw_scene(bricks, galaxies_per_brick, [bricks[number] for number in bright_stars], seed)
    profiles = [_profile(row) for row in scene.itertuples()]
    catalogues = []
    tree = BrickTree(root, _brick_table(bricks), pd.DataFrame(), ".fits.fz" if compressed else ".fits")
    for brick in bricks:
        x, y = brick.pixels(scene)

        def draw(band: str, brick: _Brick = brick, x: Float = x, y: Float = y) -> Float:
            sky = np.zeros((side, side), np.float32)
            for profile, flux, radius, column, row in zip(
                profiles, scene[f"flux_{band}"], scene["shape_r"], x, y, strict=True
            ):
                width = _stamp_width(radius)
                if -width < 2 * column < 2 * side + width and -width < 2 * row < 2 * side + width:
                    offset = column - np.rint(column), row - np.rint(row)
                    stamp = _draw_stamp(profile, brick.psf_fwhm(band), width, offset)
                    _paste(sky, stamp, flux, int(np.rint(column)), int(np.rint(row)))
            return sky

        catalogues.append(_write_brick(tree, brick, scene, draw))
    return _finish(tree, catalogues)


def make_benchmark_bricks(
    root: Path,
    columns: int,
    rows: int,
    *,
    side: int = TRUE_SIDE,
    objects_per_brick: int = 6000,
    compressed: bool = True,
    seed: int = 0,
    bands: Sequence[str] = BANDS,
) -> BrickTree:
    """A rectangle of bricks of the survey's size, made fast: copies of 200 objects, each in the middle of some pixel.

    Pixels compress like the survey's. Seeing is the same in all bricks, and neighbours do not show the same objects.

    Parameters
    ----------
    objects_per_brick
        Objects on a brick's images; the survey has 6000 in its mean brick.
    """
    bricks = _lay_bricks(columns, rows, side, TRUE_STEP * side / TRUE_SIDE, bands, (150.0, 2.0), seed)
    for brick in bricks:
        brick.conditions = bricks[0].conditions
    fwhm = {band: bricks[0].psf_fwhm(band) for band in bands}
    templates = _draw_objects(np.random.default_rng([seed, 2]), 160, 40)
    stamps = {
        band: [_draw_stamp(_profile(row), fwhm[band], _stamp_width(row.shape_r)) for row in templates.itertuples()]
        for band in bands
    }
    catalogues = []
    tree = BrickTree(root, _brick_table(bricks), pd.DataFrame(), ".fits.fz" if compressed else ".fits")
    for brick in bricks:
        generator = np.random.default_rng([seed, 3, brick.number])
        kinds = generator.integers(0, len(templates), objects_per_brick)
        x, y = generator.integers(0, side, (2, objects_per_brick))
        scene = templates.iloc[kinds].reset_index(drop=True)
        scene["ra"], scene["dec"] = brick.wcs.pixel_to_world_values(x, y)
        scene["source"] = np.arange(objects_per_brick) + brick.number * objects_per_brick

        def draw(band: str, scene: pd.DataFrame = scene, kinds: Float = kinds, x: Float = x, y: Float = y) -> Float:
            sky = np.zeros((side, side), np.float32)
            for kind, flux, column, row in zip(kinds, scene[f"flux_{band}"], x, y, strict=True):
                _paste(sky, stamps[band][kind], flux, column, row)
            return sky

        catalogues.append(_write_brick(tree, brick, scene, draw))
    return _finish(tree, catalogues)


@dataclass(eq=False)
class _Brick:
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


def _lay_bricks(
    columns: int, rows: int, side: int, step: float, bands: Sequence[str], centre: tuple[float, float], seed: int
) -> list[_Brick]:
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
            _Brick(
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


def _draw_objects(generator: np.random.Generator, galaxies: int, stars: int) -> pd.DataFrame:
    """Objects without places: one Sersic profile or a point each, so that what a catalogue says of them is all."""
    count = galaxies + stars
    star = np.arange(count) >= galaxies
    low, high = 10 ** (0.28 * np.array([16.2, 22.8]))
    magnitude = np.log10(low + generator.uniform(size=count) * (high - low)) / 0.28
    radius = np.clip(2.4 * 10 ** (-0.13 * (magnitude - 17.5) + 0.15 * generator.standard_normal(count)), 0.3, 8.0)
    kind = np.where(magnitude > 21.5, "REX", generator.choice(["EXP", "DEV", "SER"], count, p=[0.5, 0.25, 0.25]))
    kind = np.where(star, "PSF", kind)
    index = np.select([kind == "PSF", kind == "DEV", kind == "SER"], [0.0, 4.0, generator.choice([1.6, 2.5], count)], 1)
    axis_ratio = np.where((kind == "PSF") | (kind == "REX"), 1.0, generator.uniform(0.25, 1.0, count))
    ellipticity = (1 - axis_ratio) / (1 + axis_ratio)
    angle = generator.uniform(0, np.pi, count)
    red = np.where(star, generator.uniform(-0.2, 1.2, count), (index > 2) + generator.normal(0, 0.15, count))
    colour = {"g": 0.5 + 0.5 * red, "r": np.zeros(count), "z": -(0.35 + 0.35 * red)}
    objects = pd.DataFrame({"type": kind, "shape_r": np.where(star, 0.0, radius)})
    objects["shape_e1"] = ellipticity * np.cos(2 * angle)
    objects["shape_e2"] = ellipticity * np.sin(2 * angle)
    objects["sersic"] = index
    for band in BANDS:
        objects[f"flux_{band}"] = 10 ** (0.4 * (ZERO_POINT - magnitude - colour[band]))
    return objects


def _draw_scene(
    bricks: Sequence[_Brick], galaxies_per_brick: int, starred: Sequence[_Brick], seed: int
) -> pd.DataFrame:
    """The sky under all bricks, as far as their images reach; neighbours that are not there own its rim."""
    reach = bricks[0].side * SURVEY_PIXEL / 3600
    rim = (reach - (bricks[0].dec2 - bricks[0].dec1)) / 2
    ra = np.array([bricks[0].ra1, bricks[-1].ra2]) + np.array([-rim, rim]) / np.cos(np.deg2rad(bricks[0].dec))
    dec = np.array([bricks[0].dec1 - rim, bricks[-1].dec2 + rim])
    own = (bricks[0].ra2 - bricks[0].ra1) * (bricks[0].dec2 - bricks[0].dec1)
    galaxies = round(galaxies_per_brick * float(np.ptp(ra) * np.ptp(dec)) / own)
    generator = np.random.default_rng([seed, 1])
    scene = _draw_objects(generator, galaxies, galaxies // 4)
    scene["ra"], scene["dec"] = generator.uniform(*ra, len(scene)), generator.uniform(*dec, len(scene))
    for brick in starred:
        place = brick.wcs.pixel_to_world_values(0.75 * brick.side, 0.25 * brick.side)
        flux = 10 ** (0.4 * (ZERO_POINT - 11))
        star = {"type": "PSF", "ra": float(place[0]), "dec": float(place[1])} | {f"flux_{b}": flux for b in BANDS}
        scene = pd.concat([scene, pd.DataFrame([star])], ignore_index=True).fillna(0.0)
    scene["source"] = np.arange(len(scene))
    return scene


def _profile(row: Any) -> galsim.GSObject | None:
    """A galaxy's unit flux before seeing, x along columns to the west, y along rows to the north; None for a star."""
    if row.type == "PSF":
        return None
    ellipticity = np.hypot(row.shape_e1, row.shape_e2)
    # `shape_r` is along the major axis, GalSim's radius that of the circle of the same area.
    radius = row.shape_r * np.sqrt((1 - ellipticity) / (1 + ellipticity))
    # From north through east, which is to the left: a quarter turn on from x.
    angle = np.arctan2(row.shape_e2, row.shape_e1) / 2 + np.pi / 2
    return galsim.Sersic(n=row.sersic, half_light_radius=radius).shear(g=ellipticity, beta=angle * galsim.radians)


def _stamp_width(radius: float) -> int:
    return 2 * int(min(12 + 9 * radius, 45) / SURVEY_PIXEL) + 1


def _draw_stamp(
    profile: galsim.GSObject | None, fwhm: float, width: int, offset: tuple[float, float] = (0.0, 0.0)
) -> Float:
    """(width, width) share of the flux per pixel, centred on the middle pixel plus `offset`."""
    seeing = galsim.Moffat(beta=MOFFAT_BETA, fwhm=fwhm)
    seen = seeing if profile is None else galsim.Convolve(profile, seeing)
    image = galsim.ImageF(width, width, scale=SURVEY_PIXEL)
    # The survey's PSF sizes are measured on images, so they hold the pixel already.
    stamp: Float = seen.drawImage(image, method="no_pixel", offset=offset).array
    return stamp


def _paste(sky: Float, stamp: Float, flux: float, column: int, row: int) -> None:
    half, side = len(stamp) // 2, len(sky)
    left, low = column - half, row - half
    part = stamp[max(-low, 0) : side - low, max(-left, 0) : side - left]
    if part.size:
        sky[max(low, 0) : low + len(stamp), max(left, 0) : left + len(stamp)] += np.float32(flux) * part


def _write_brick(tree: BrickTree, brick: _Brick, scene: pd.DataFrame, draw: Callable[[str], Float]) -> pd.DataFrame:
    """Write one brick's files and return its catalogue; `draw` gives the noiseless image of a band."""
    x, y = brick.pixels(scene)
    seen = (np.rint(x) >= 0) & (np.rint(x) < brick.side) & (np.rint(y) >= 0) & (np.rint(y) < brick.side)
    objects, x, y = scene[seen].reset_index(drop=True), x[seen], y[seen]
    at = np.rint(y).astype(int), np.rint(x).astype(int)
    mask = np.where(brick.own_pixels(), 0, NOT_PRIMARY).astype(np.int16)
    grid = np.arange(brick.side)
    for star in scene[scene["flux_r"] > 10 ** (0.4 * (ZERO_POINT - 12))].itertuples():
        column, row = brick.wcs.world_to_pixel_values(star.ra, star.dec)
        mask[np.hypot(grid[None, :] - column, grid[:, None] - row) < brick.side / 10] |= BRIGHT_STAR
    written = {}
    for band in brick.conditions.bands:
        exposed = brick.exposure_map(band)
        objects[f"nobs_{band}"] = exposed[at]
        if not brick.exposures[band]:
            continue
        # By the number of exposures, 0 to all: how much noisier than where all are.
        most = brick.exposures[band]
        worse = np.sqrt(most / np.maximum(np.arange(most + 1), 1)).astype(np.float32)[exposed]
        generator = np.random.default_rng([brick.seed, 5, brick.number, BANDS.index(band)])
        one = Conditions((band,), (brick.psf_fwhm(band),), (brick.noise(band),), 0.0, SURVEY_PIXEL)
        image = add_noise((draw(band) / worse)[None], one, generator)[0] * worse
        # Weights of single exposures carry noise of their own, which is most of what their files hold.
        weight = 1 + np.float32(0.02) * generator.standard_normal(image.shape, dtype=np.float32)
        weight /= (np.float32(brick.noise(band)) * worse) ** 2
        for product, pixels in (("image", image), ("invvar", weight)):
            pixels[exposed == 0] = 0
            path = tree.image(brick.name, product, band)
            written[path] = _write_image(path, product, pixels, _image_header(brick, product, band))
    path = tree.image(brick.name, "maskbits")
    written[path] = _write_image(path, "maskbits", mask, _image_header(brick, "maskbits"))
    catalogue = _catalogue(brick, objects, x, y, mask[at])
    measured = catalogue.drop(columns="source")
    for band in brick.conditions.bands:
        measured[f"flux_{band}"] *= measured[f"nobs_{band}"] > 0
    path = tree.catalogue(brick.name)
    written[path] = _write_table(path, measured, brick.header)
    lines = [f"{digest} *{path.relative_to(tree.root)}\n" for path, digest in written.items()]
    tree.checksums(brick.name).write_text("".join(lines))
    return catalogue


def _catalogue(brick: _Brick, objects: pd.DataFrame, x: Float, y: Float, maskbits: NDArray[np.int16]) -> pd.DataFrame:
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    reddening = _reddening(ra, dec)
    columns: dict[str, Any] = {"release": RELEASE, "brickid": brick.brickid, "brickname": brick.name}
    columns |= {"objid": np.arange(len(objects)), "brick_primary": brick.owns(ra, dec), "maskbits": maskbits}
    columns |= {"type": objects["type"], "ra": ra, "dec": dec, "bx": x, "by": y, "ebv": reddening}
    measured: dict[str, dict[str, Any]] = {}
    for band in brick.conditions.bands:
        fwhm, exposed = brick.psf_fwhm(band), objects[f"nobs_{band}"]
        depth = brick.conditions.depth(band) * exposed / max(brick.exposures[band], 1)
        measured[band] = {
            "flux": objects[f"flux_{band}"],
            # About how much noisier an extended source is than a point.
            "flux_ivar": depth / (1 + (2 * objects["shape_r"] / fwhm) ** 2),
            "mw_transmission": 10 ** (-0.4 * EXTINCTION[band] * reddening),
            "nobs": exposed,
            "psfsize": fwhm * (exposed > 0),
            "psfdepth": depth,
        }
    kinds = next(iter(measured.values()))
    columns |= {f"{kind}_{band}": measured[band][kind] for kind in kinds for band in measured}
    columns |= {name: objects[name] for name in ("sersic", "shape_r", "shape_e1", "shape_e2", "source")}
    return pd.DataFrame(columns)


def _reddening(ra: Float, dec: Float) -> Float:
    return 0.035 + 0.015 * np.sin(np.deg2rad(700 * ra)) * np.cos(np.deg2rad(900 * dec))


def _brick_table(bricks: Sequence[_Brick]) -> pd.DataFrame:
    rows = []
    for brick in bricks:
        bands, reddening = brick.conditions.bands, float(_reddening(np.array(brick.ra), np.array(brick.dec)))
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


def _finish(tree: BrickTree, catalogues: Sequence[pd.DataFrame]) -> BrickTree:
    bricks = tree.bricks.assign(nobjs=[int(catalogue["brick_primary"].sum()) for catalogue in catalogues])
    table = bricks.drop(columns=["brickq", "brickrow", "brickcol"])
    _write_table(tree.root / "survey-bricks-dr9-south.fits.gz", table, fits.Header())
    return BrickTree(tree.root, bricks, pd.concat(catalogues, ignore_index=True), tree.suffix)


def _image_header(brick: _Brick, product: str, band: str = "") -> fits.Header:
    header = brick.header.copy()
    scale, middle = SURVEY_PIXEL / 3600, (brick.side + 1) / 2
    header.extend(
        [("WCSAXES", 2), ("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CUNIT1", "deg"), ("CUNIT2", "deg")]
    )
    header.extend([("CRVAL1", brick.ra), ("CRVAL2", brick.dec), ("CRPIX1", middle), ("CRPIX2", middle)])
    header.extend([("CD1_1", -scale), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", scale)])
    header.extend([("EQUINOX", 2000.0), ("LONPOLE", 180.0), ("LATPOLE", 0.0)])
    if band:
        header["TELESCOP"] = ("CTIO 4.0-m telescope", "Telescope  name")
        header["INSTRUME"] = ("DECam", "Instrument name")
        header["FILTER"] = (FILTERS[band], "Filter name")
        header["FILTERX"] = (band, "Filter short name")
    header["IMTYPE"] = (product, "LegacySurveys image type")
    if product == "image":
        header["PRODTYPE"] = ("image", "NOAO image type")
        header["MAGZERO"] = (ZERO_POINT, "Magnitude zeropoint")
        header["BUNIT"] = ("nanomaggy", "AB mag = 22.5 - 2.5*log10(nanomaggy)")
    elif product == "invvar":
        header["PRODTYPE"] = ("wtmap", "NOAO image type")
        header["BUNIT"] = ("1/nanomaggy^2", "Ivar of ABmag=22.5-2.5*log10(nmgy)")
    return header


def _write_image(path: Path, product: str, pixels: NDArray[Any], header: fits.Header) -> str:
    if path.suffix == ".fits":
        return _write(path, fits.HDUList([fits.PrimaryHDU(pixels, header)]))
    name = "MASKBITS" if product == "maskbits" else None
    image = fits.CompImageHDU(pixels, header, name, tile_shape=(TILE, TILE), **COMPRESSION[product])
    return _write(path, fits.HDUList([fits.PrimaryHDU(), image]))


def _write_table(path: Path, table: pd.DataFrame, header: fits.Header) -> str:
    columns = Table()
    for name in table.columns:
        kind = COLUMN_TYPES.get(name) or COLUMN_TYPES.get(name.rpartition("_")[0], "f4")
        columns[name] = table[name].to_numpy().astype(kind)
    return _write(path, fits.HDUList([fits.PrimaryHDU(header=header), fits.table_to_hdu(columns)]))


def _write(path: Path, hdus: fits.HDUList) -> str:
    """Write the same bytes for the same data, with CHECKSUM and DATASUM, and return their SHA-256."""
    data, summed = BytesIO(), BytesIO()
    # Tiles that cannot be quantised, such as constant ones, astropy compresses by gzip with the present time inside.
    with mock.patch("astropy.io.fits.hdu.compressed._codecs.gzip_compress", partial(gzip.compress, mtime=0)):
        hdus.writeto(data)
    data.seek(0)
    # `writeto(checksum=True)` would write the present time into comments, so sums are added to what is written.
    with fits.open(data, disable_image_compression=True) as written:
        for hdu in written:
            hdu.add_checksum(when="checksum of a made-up brick")
        written.writeto(summed)
    content = summed.getvalue()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
