"""The files of a brick tree: where each lies, and how it is written.

Layout, header keys, columns and compression are those of the survey's pipeline, legacypipe at tag DR9.6.7 (survey.py,
coadds.py, format_catalog.py, legacyanalysis/brick-summary.py): images are Rice-compressed in steps of 1e-4 nanomaggies
that keep zeros, inverse variances in steps of a sixteenth of their noise, and mask bits by HCOMPRESS.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from galaxy_models.photometry import ZERO_POINT
from galaxy_models.simulation.galaxy import BANDS
from galaxy_models.simulation.observing import SURVEY_PIXEL, Conditions, add_noise
from galaxy_models.simulation.population import EXTINCTION
from tests.doubles.brick import RELEASE, TILE, Brick, Float, reddening_at

NOT_PRIMARY, BRIGHT_STAR = 0x1, 0x2
"""Of the mask bits: pixels that belong to a neighbouring brick, and pixels near a bright star."""


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


def write_brick(tree: BrickTree, brick: Brick, scene: pd.DataFrame, draw: Callable[[str], Float]) -> pd.DataFrame:
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
    written[path] = write_table(path, measured, brick.header)
    lines = [f"{digest} *{path.relative_to(tree.root)}\n" for path, digest in written.items()]
    tree.checksums(brick.name).write_text("".join(lines))
    return catalogue


def _catalogue(brick: Brick, objects: pd.DataFrame, x: Float, y: Float, maskbits: NDArray[np.int16]) -> pd.DataFrame:
    ra, dec = objects["ra"].to_numpy(), objects["dec"].to_numpy()
    reddening = reddening_at(ra, dec)
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


def _image_header(brick: Brick, product: str, band: str = "") -> fits.Header:
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


def write_table(path: Path, table: pd.DataFrame, header: fits.Header) -> str:
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
