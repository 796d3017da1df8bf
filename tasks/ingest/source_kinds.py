"""The kinds of source that a survey definition may name, and their options."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


PASSWORD = re.compile(r"^\w+://[^/]*@")


class Definition(BaseModel):
    """Base of the definition's parts: frozen, unknown keys refused, and no password in an address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _without_passwords(self) -> Self:
        for name, value in self:
            if isinstance(value, str) and PASSWORD.search(value):
                raise ValueError(
                    f"`{name}` has a user or password in its address, which is stored with every dataset: put the "
                    "address into an environment variable, and write ${VARIABLE} here"
                )
        return self


class Columns(Definition):
    """Names of a catalogue's columns. Positions are ICRS."""

    object_id: str | list[str] = Field(
        "object_id", description="Unique name of an object; several columns are joined by a hyphen."
    )
    ra: str | None = Field(None, description="Right ascension.")
    dec: str | None = Field(None, description="Declination.")
    position_unit: Literal["degree", "hour", "radian"] = Field(
        "degree",
        description="Unit of the position; with `hour` the right ascension is in hours, the declination in degrees.",
    )
    file: str | None = Field(None, description="File of the image, relative to the source's folder.")
    field: str | None = Field(None, description="Rows with the same value share pixels: they are split as one.")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.ra is None) != (self.dec is None):
            raise ValueError(f"a position needs both columns: `ra` is {self.ra!r} and `dec` is {self.dec!r}")
        return self

    @property
    def id_columns(self) -> list[str]:
        """Columns that make the object's id."""
        return [self.object_id] if isinstance(self.object_id, str) else list(self.object_id)


class Rescale(Definition):
    """How an image becomes a stamp: a central square, resampled with anti-aliasing, never stretched out of shape."""

    keep: float = Field(
        1.0, gt=0, le=1, description="Side of the central square that is kept, share of the shorter side."
    )


class SimulatedSource(Definition):
    """Galaxies drawn by GalSim, each from its own seed."""

    kind: Literal["simulated"]
    name: Name
    count: int = Field(2000, ge=1, le=100_000_000, description="Number of galaxies.")
    seed: int = Field(0, ge=0, description="Seed of the whole set; object i has a seed of its own.")
    lens_rate: float = Field(0.05, ge=0, le=1, description="Share of galaxies that lens an arc.")
    merger_rate: float = Field(0.06, ge=0, le=1, description="Share of mergers and disturbed pairs.")
    survey_bands: str = Field("grz", description="Filters, for the catalogue.")
    pixel_scale: float = Field(0.262, gt=0, le=10, description='Pixel scale, "/px.')


class ImagesSource(Definition):
    """A folder of JPEG, PNG or FITS images with a table."""

    kind: Literal["images"]
    name: Name
    folder: str = Field(
        description="Folder of the images, by path or as s3://...; `${GALAXY_SKY}` stands for the sky folder."
    )
    catalogue: str = Field(description="Table (CSV, Parquet, FITS, VOTable) with one or more rows per image.")
    columns: Columns = Columns()
    survey_bands: str = Field(description="Filters that the picture was made of, such as gri.")
    pixel_scale: float | None = Field(
        None, gt=0, le=10, description='Pixel scale of the image file, "/px; absent if unknown.'
    )
    field_of_view: float | None = Field(
        None,
        gt=0,
        description="Side of the stamp on the sky, arcsec, where the pixel scale is not known well; for guards.",
    )
    rescale: Rescale = Rescale()


class TileColumns(Definition):
    """Names of the columns of a table of tiles, in any case. Centres are in degrees, ICRS."""

    name: str = Field("brickname", description="Name of a tile.")
    ra: str = Field("ra", description="Right ascension of the centre, degrees.")
    dec: str = Field("dec", description="Declination of the centre, degrees.")


LEGACY_COADD = "coadd/{tile:.3}/{tile}/legacysurvey-{tile}"
DEFECTS = 0b1111_1110
"""Bits 1 to 7 of the Legacy Surveys' maskbits: a bright star; saturated in g, r, z; bad in all exposures of g, r, z.
Bits 8 and 9 are of WISE; bit 12, a large galaxy, marks what we came for."""


class BricksSource(Definition):
    """Coadded images by the tile, as a survey's data release has them; the defaults are the Legacy Surveys' bricks.

    In patterns `{tile}` is the tile's name, `{tile:.3}` its first three characters, and `{band}` the band as
    `band_names` has it. An image, its inverse variance and its mask are of one shape.
    """

    kind: Literal["bricks"]
    name: Name
    root: str = Field(description="Path or URL of the release, such as https://host/dr9/south or s3://bucket/dr9.")
    catalogue: str = Field(description="Table of the objects (CSV, Parquet, FITS, VOTable), by path or URL.")
    columns: Columns = Columns(object_id=["release", "brickid", "objid"], ra="ra", dec="dec")
    tile_column: str = Field(
        "", description="Column of the catalogue with each object's tile; empty: the one that covers it best is taken."
    )
    tiles: str = Field(
        "survey-bricks-dr9-south.fits.gz",
        description="Table of the tiles, below `root` or by path or URL; not needed with `tile_column`. Its columns "
        "psfsize_<band> (arcsec), psfdepth_<band> (5-sigma magnitude) and ebv go into the catalogue.",
    )
    tile_columns: TileColumns = TileColumns()
    tile_side: int = Field(3600, ge=32, le=100_000, description="Side of a tile, pixels, to choose tiles by.")
    image: str = Field(LEGACY_COADD + "-image-{band}.fits.fz", description="File of an image, below `root`.")
    invvar: str = Field("", description="File of its inverse variance; empty: none is read.")
    mask: str = Field("", description="File of the bit mask of all bands; empty: none is read.")
    mask_bits: int = Field(DEFECTS, ge=0, description="Bits of the mask that count as defects.")
    survey_bands: str = Field("grz", description="Bands of the survey that are read.")
    band_names: dict[str, str] = Field(default_factory=dict, description="Band to its name in files, where it differs.")
    pixel_scale: float = Field(0.262, gt=0, le=10, description='Pixel scale, "/px; tiles with another are refused.')
    zero_point: float = Field(22.5, ge=0, le=50, description="AB magnitude of one unit of the image.")
    exposure_key: str = Field(
        "", description="Header key of the exposure time, s, where an image is counts of the whole exposure."
    )
    tractor: str = Field("", description="File of a tile's Tractor catalogue, below `root`; empty: none is joined.")
    tractor_columns: list[str] = Field(
        default=["type", "maskbits", "shape_r", "shape_e1", "shape_e2", "sersic", "flux_g", "flux_r", "flux_z"],
        description="Columns that are joined from there by release, brickid and objid, as `tractor_<name>`.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.columns.ra is None:
            raise ValueError("`columns` must name `ra` and `dec`: stamps are cut by position")
        if not self.tiles and not self.tile_column:
            raise ValueError("give `tiles`, a table of the tiles, or `tile_column`")
        for key in ("image", "invvar", "mask", "tractor"):
            try:
                getattr(self, key).format(tile="0001p000", band="g")
            except (KeyError, ValueError, IndexError) as error:
                raise ValueError(f"`{key}` is no pattern of {{tile}} and {{band}}: {error!r}") from None
        return self


class LegacySurveysSource(Definition):
    """A list of positions, each asked for at the Legacy Surveys' cutout service, or at one that speaks like it.

    With units `nanomaggy` stamps are fluxes (`fits-cutout`), with `rgb` the viewer's pictures (`jpeg-cutout`).
    """

    kind: Literal["legacy_surveys"]
    name: Name
    catalogue: str = Field(description="Table of the objects (CSV, Parquet, FITS, VOTable), by path or URL.")
    columns: Columns = Columns(ra="ra", dec="dec")
    url: str = Field(
        "https://www.legacysurvey.org/viewer",
        description="The service. The definition is kept with the dataset, so user:password belong into an environment "
        "variable that is named here, such as ${CUTOUTS}.",
    )
    layer: str = Field(
        "ls-dr9", min_length=1, description="Layer of the viewer, such as ls-dr9, ls-dr10 or ls-dr9-north."
    )
    survey_bands: str = Field("grz", min_length=1, description="Bands of the layer; those that a picture is made of.")
    pixel_scale: float = Field(0.262, gt=0, le=10, description='Pixel scale that is asked for, "/px.')
    invvar: bool = Field(False, description="Whether inverse variances are there to be asked for, as the survey may.")
    connections: int = Field(4, ge=1, le=16, description="Requests at a time, of all workers together.")
    attempts: int = Field(6, ge=1, le=20, description="Tries for one object before it is given up.")
    largest_list: int = Field(10_000, ge=1, description="Most objects; longer lists are for a source of kind `bricks`.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.columns.ra is None:
            raise ValueError("`columns` must name `ra` and `dec`: stamps are asked for by position")
        return self


class SteinSource(Definition):
    """HDF5 files of stamps as Stein et al. (2021) published them of the Legacy Surveys' DR9.

    The file images_npix152_000000000_001000000.h5 has the rows 0 to 999999 of one list; an object's id is its number
    in the list. North and south are two lists, and two sources. Columns of the files, of label tables too, have the
    files' names, with the band where there is one for each, such as z_spec and flux_r.
    """

    kind: Literal["stein"]
    name: Name
    folder: str = Field(description="Path or URL of the folder of the files.")
    files: list[str] = Field(
        default=["images_npix*.h5"], min_length=1, description="Names below the folder, or patterns with *."
    )
    survey_bands: str = Field("grz", min_length=1, description="Bands of the images, in their order.")
    pixel_scale: float = Field(0.262, gt=0, le=10, description='Pixel scale, "/px.')


class Galaxy10Source(Definition):
    """The HDF5 file of Galaxy10 DECaLS, or of Galaxy10 SDSS, which has no positions; an object's id is its row.

    Columns of label tables have the file's names, such as ans and redshift.
    """

    kind: Literal["galaxy10"]
    name: Name
    file: str = Field(description="Path or URL of the file, such as Galaxy10_DECals.h5.")
    survey_bands: str = Field("grz", min_length=1, description="Filters that the pictures were made of; SDSS: gri.")
    pixel_scale: float | None = Field(
        None, gt=0, le=10, description='Pixel scale, "/px, where the file has no column `pxscale`; absent if unknown.'
    )
    rescale: Rescale = Rescale()


class MultimodalSource(Definition):
    """Parquet files as the Multimodal Universe has them, with a list of the bands' images in each row.

    A band has `band` (its name), an image of fluxes and, if known, `psf_fwhm` (arcsec) and `scale` ("/px). Columns
    psfdepth_<band> (1/nanomaggy^2) and ebv, in any case, go into the catalogue. Every table also has the columns
    `file` and `row`, for ids of sets that have none. Without positions, objects are stored in the order of their ids:
    where that is not the files' order, each shard is read from all files, and such ids are far faster.
    """

    kind: Literal["multimodal_universe"]
    name: Name
    folder: str = Field(description="Path or URL of the folder of the files.")
    files: list[str] = Field(
        default=["**/*.parquet"], min_length=1, description="Names below the folder, or patterns with *."
    )
    columns: Columns = Columns(ra="ra", dec="dec")
    image: str = Field("image", description="Column with the list of bands.")
    flux: str = Field("flux", description="Field of a band with its image.")
    invvar: str = Field("", description="Field with the inverse variance, such as ivar; empty: none is read.")
    survey_bands: str = Field("grz", min_length=1, description="Bands of the survey that are read.")
    band_names: dict[str, str] = Field(
        default={band: f"des-{band}" for band in "griz"}, description="Band to its name in the files, where it differs."
    )
    pixel_scale: float | None = Field(
        None, gt=0, le=10, description='Pixel scale, "/px; images that tell another are refused. Absent: theirs.'
    )
    zero_point: float = Field(22.5, ge=0, le=50, description="AB magnitude of one unit of the images.")


Source = Annotated[
    SimulatedSource
    | ImagesSource
    | BricksSource
    | LegacySurveysSource
    | SteinSource
    | Galaxy10Source
    | MultimodalSource,
    Field(discriminator="kind"),
]
