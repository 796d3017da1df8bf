"""Tiles of other surveys through a definition alone: Pan-STARRS1 stacks and Hyper Suprime-Cam patches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from infra.settings import Settings
from tasks.ingest.bricks import Bricks
from tasks.ingest.survey import SurveyDefinition, load_survey
from tasks.stamps.stamp import Refusal, Stamp

SKY = Path(os.environ.get("GALAXY_SKY", Path(__file__).parents[4] / "shared/sky"))
needs_sky = pytest.mark.skipif(not SKY.is_dir(), reason="needs the real images of GALAXY_SKY")


def answers_of(definition: SurveyDefinition, home: Path) -> dict[str, Stamp | Refusal]:
    source = Bricks(definition.sources[0], definition, Settings(home=home, sky=SKY, mlflow_uri="unused"))
    rows = source.rows()
    return dict(zip(rows["object_id"], source.read(rows), strict=True))


@needs_sky
def test_panstarrs_stacks_are_fluxes_in_nanomaggies(tmp_path: Path) -> None:
    answers = answers_of(load_survey("panstarrs_lenses"), tmp_path)
    stamps = {name: answer for name, answer in answers.items() if isinstance(answer, Stamp)}
    missing = [answer for answer in answers.values() if isinstance(answer, Refusal)]
    assert len(stamps) == 13
    assert {(answer.reason, answer.state) for answer in missing} == {("no coverage", "no_coverage")}
    for name, stamp in stamps.items():
        tile = name.removeprefix("panstarrs/")
        with fits.open(SKY / f"panstarrs_lens_fits/{tile}/{tile}_i.fits.gz") as file:
            counts, seconds = file[0].data, file[0].header["EXPTIME"]
        # a magnitude is 25 - 2.5 log10(counts / second), and 22.5 - 2.5 log10(nanomaggies)
        flux = np.nan_to_num(counts) / seconds / 10
        assert stamp.image.shape == (3, 96, 96)
        assert stamp.columns["pixel_scale"] == pytest.approx(0.25, rel=1e-4)
        cut = flux[12:108, 12:108]  # the object is in the middle to a pixel
        ours = stamp.image[2].astype(float)
        moved = [np.roll(ours, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        inner = slice(4, -4)
        near = max(np.corrcoef(one[inner, inner].ravel(), cut[inner, inner].ravel())[0, 1] for one in moved)
        assert near > 0.999
    brightest = max(float(stamp.image[2].max()) for stamp in stamps.values())
    assert 0.1 < brightest < 100  # between magnitude 17.5 and 25 a pixel


@needs_sky
def test_hyper_suprime_cam_patches_with_their_own_names_of_bands(tmp_path: Path) -> None:
    scene = np.load(SKY / "hsc/hsc_cosmos.npz")
    _, height, width = scene["images"].shape
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2, "CRPIX1": width / 2 + 0.7,
            "CRPIX2": height / 2 + 0.7, "CD1_1": -0.168 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.168 / 3600,
        }
    )  # fmt: skip
    for band, image in zip(scene["filters"], scene["images"], strict=True):
        folder = tmp_path / f"HSC-{band.upper()}/9813"
        folder.mkdir(parents=True)
        mask = fits.ImageHDU(np.zeros(image.shape, np.int32), header)
        units = [fits.PrimaryHDU(), fits.ImageHDU(image, header), mask]
        fits.HDUList(units).writeto(folder / f"calexp-HSC-{band.upper()}-9813-4,5.fits")
    pd.DataFrame({"id": [41], "ra": [150.1], "dec": [2.2], "patch": ["4,5"]}).to_csv(
        tmp_path / "objects.csv", index=False
    )
    definition = SurveyDefinition.model_validate(
        {
            "name": "hsc", "units": "nanomaggy", "bands": ["g", "r", "z"], "stamp_size": 32,
            "sources": [
                {
                    "kind": "bricks", "name": "hsc", "root": str(tmp_path), "catalogue": str(tmp_path / "objects.csv"),
                    "columns": {"object_id": "id", "ra": "ra", "dec": "dec"}, "tile_column": "patch",
                    "image": "{band}/9813/calexp-{band}-9813-{tile}.fits", "survey_bands": "grizy",
                    "band_names": {"g": "HSC-G", "r": "HSC-R", "z": "HSC-Z"}, "pixel_scale": 0.168, "zero_point": 27.0,
                }
            ],
        }
    )  # fmt: skip
    [(name, stamp)] = answers_of(definition, tmp_path).items()
    assert name == "hsc/41"
    assert isinstance(stamp, Stamp)
    left, low = (int(np.floor(length / 2 - 0.3 - 15.5 + 0.5)) for length in (width, height))
    for channel, band in enumerate("grz"):
        image = scene["images"]["grizy".index(band)][low : low + 32, left : left + 32]
        assert np.allclose(stamp.image[channel], image * 10 ** (-0.4 * 4.5), rtol=2e-3, atol=1e-6)
