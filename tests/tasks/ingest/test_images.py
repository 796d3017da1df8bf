"""Images of all kinds, good and bad."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from tasks.ingest.images import ImageFolder
from tasks.stamps.stamp import Refusal, Stamp


def read(survey, name: str) -> Stamp | Refusal:
    """Read one file of the survey's folder."""
    survey.table = survey.table.iloc[:1].assign(name=name)
    context = survey.context()
    folder = ImageFolder(context.survey.sources[0], context.survey, context.settings)
    return folder.read(folder.rows())[0]


def as_fluxes(survey) -> None:
    survey.units, survey.bands = "nanomaggy", ["g", "r", "z"]


def write_cube(path: Path, cube: np.ndarray, **header: object) -> None:
    fits.PrimaryHDU(cube.astype(np.float32), fits.Header(header)).writeto(path, overwrite=True)


WCS_KEYS = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 32.0, "CRPIX2": 32.0,
    "CD1_1": -0.262 / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.262 / 3600,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "grey", "transparent", "palette"])
def test_pictures_of_every_kind_become_colour_stamps(survey, kind: str) -> None:
    picture = Image.new("RGB", (60, 90), (200, 100, 50))
    mode = {"grey": "L", "transparent": "RGBA", "palette": "P"}.get(kind, "RGB")
    name = "one.jpg" if kind == "JPEG" else "one.png"
    picture.convert(mode).save(survey.images / name)
    stamp = read(survey, name)
    assert stamp.image.shape == (3, 32, 32)
    assert stamp.image.dtype == np.uint8
    colour = stamp.image.mean(axis=(1, 2))
    assert colour == pytest.approx([124] * 3 if kind == "grey" else [200, 100, 50], abs=8)


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(survey) -> None:
    smooth = np.asarray(Image.effect_noise((9, 9), 60).resize((1600, 1200), Image.Resampling.BICUBIC))
    Image.fromarray(smooth).convert("RGB").save(survey.images / "large.jpg", quality=95)
    Image.fromarray(smooth).convert("RGB").save(survey.images / "large.png")
    survey.source |= {"pixel_scale": 0.1}
    drafted, whole = read(survey, "large.jpg"), read(survey, "large.png")
    assert np.abs(drafted.image.astype(int) - whole.image).mean() < 1.5
    assert drafted.columns == whole.columns


def test_the_pixel_scale_is_that_of_the_stamp(survey) -> None:
    survey.source |= {"pixel_scale": 0.1, "rescale": {"keep": 0.5}}
    Image.new("RGB", (128, 200)).save(survey.images / "one.png")
    assert read(survey, "one.png").columns["pixel_scale"] == pytest.approx(0.1 * 64 / 32)


def test_fluxes_are_conserved_and_the_wcs_gives_the_scale(survey) -> None:
    as_fluxes(survey)
    y, x = np.mgrid[:64, :64] - 31.5
    cube = np.stack([f * np.exp(-(x**2 + y**2) / 50) for f in (1, 2, 3)])
    write_cube(survey.images / "cube.fits", cube, **WCS_KEYS)
    stamp = read(survey, "cube.fits")
    assert stamp.image.dtype == np.float16
    assert stamp.image.astype(float).sum(axis=(1, 2)) == pytest.approx(cube.sum(axis=(1, 2)), rel=3e-3)
    assert stamp.columns["pixel_scale"] == pytest.approx(2 * 0.262, rel=1e-4)


def test_bands_are_put_into_the_order_of_the_definition(survey) -> None:
    as_fluxes(survey)
    survey.source["survey_bands"] = "zrg"
    write_cube(survey.images / "cube.fits", np.ones((3, 32, 32)) * np.array([1, 2, 3])[:, None, None])
    assert read(survey, "cube.fits").image[:, 0, 0].tolist() == [3, 2, 1]


def test_bad_fluxes_are_refused_with_the_reason(survey) -> None:
    as_fluxes(survey)
    cube = np.ones((3, 32, 32))
    write_cube(survey.images / "empty.fits", np.full_like(cube, np.nan))
    assert read(survey, "empty.fits") == Refusal("no coverage", "no_coverage", "empty.fits")
    hole = cube.copy()
    hole[1, 4, 4:6] = np.nan
    write_cube(survey.images / "hole.fits", hole)
    assert read(survey, "hole.fits").reason == "pixels without a value"
    write_cube(survey.images / "two.fits", cube[:2])
    assert read(survey, "two.fits").reason == "wrong bands"
    write_cube(survey.images / "counts.fits", cube, BUNIT="adu")
    assert read(survey, "counts.fits").reason == "not in nanomaggies"
    (survey.images / "short.fits").write_bytes((survey.images / "two.fits").read_bytes()[:6000])
    assert read(survey, "short.fits").reason == "truncated image"
    assert read(survey, "g000.png").reason == "units do not fit"


def test_bad_pictures_are_refused_with_the_reason(survey, monkeypatch) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    noise.save(survey.images / "whole.jpg")
    (survey.images / "short.jpg").write_bytes((survey.images / "whole.jpg").read_bytes()[:1500])
    (survey.images / "text.jpg").write_text("not a picture")
    (survey.images / "nothing.jpg").touch()
    Image.new("I;16", (40, 40)).save(survey.images / "deep.png")
    Image.new("1", (9000, 9000)).save(survey.images / "bomb.png")
    write_cube(survey.images / "cube.fits", np.ones((3, 32, 32)))
    reasons = {
        "short.jpg": "truncated image",
        "text.jpg": "unreadable image",
        "nothing.jpg": "unreadable image",
        "deep.png": "not an 8-bit picture",
        "bomb.png": "image too large",
        "absent.png": "no image file",
        "../table.csv": "image outside of the folder",
        "/etc/hostname": "image outside of the folder",
        "cube.fits": "units do not fit",
    }
    for name, reason in reasons.items():
        answer = read(survey, name)
        assert isinstance(answer, Refusal), name
        assert (answer.reason, answer.state) == (reason, "failed"), name


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("opener", ["PIL.Image.open", "astropy.io.fits.open"])
def test_a_failing_disk_is_no_fault_of_the_image(survey, monkeypatch, number: int, opener: str) -> None:
    if "fits" in opener:
        as_fluxes(survey)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "the disk fails")

    monkeypatch.setattr(opener, fail)
    with pytest.raises(OSError, match="the disk fails"):
        read(survey, "g000.fits" if "fits" in opener else "g000.png")


@pytest.mark.parametrize("opener", ["PIL.Image.open", "astropy.io.fits.open"])
def test_a_file_that_may_not_be_read_is_refused_alone(survey, monkeypatch, opener: str) -> None:
    if "fits" in opener:
        as_fluxes(survey)

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(opener, forbid)
    assert read(survey, "g000.fits" if "fits" in opener else "g000.png").reason == "unreadable image"


@pytest.mark.parametrize("suffix", [".fits.fz", ".fits.gz"])
def test_a_damaged_compressed_image_is_refused_whatever_its_decoder_raises(survey, suffix: str) -> None:
    as_fluxes(survey)
    noise = np.random.default_rng(0).normal(0, 1, (3, 64, 64)).astype(np.float32)
    whole = survey.images / f"whole{suffix}"
    unit = fits.CompImageHDU(noise) if suffix == ".fits.fz" else fits.PrimaryHDU(noise)
    unit.writeto(whole)
    assert isinstance(read(survey, whole.name), Stamp)
    data, rng = whole.read_bytes(), np.random.default_rng(1)
    for turn in range(40):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(len(data) // 3, len(data), 40)] = rng.integers(0, 256, 40)
        (survey.images / f"damaged{turn}{suffix}").write_bytes(damaged.tobytes())
        assert isinstance(read(survey, f"damaged{turn}{suffix}"), Stamp | Refusal)


def test_a_scale_or_bands_other_than_the_definitions_are_refused_with_both_named(survey) -> None:
    as_fluxes(survey)
    survey.source["pixel_scale"] = 0.5
    cube = np.ones((3, 64, 64))
    write_cube(survey.images / "cube.fits", cube, **WCS_KEYS)
    answer = read(survey, "cube.fits")
    assert answer.reason == "pixel scale does not fit"
    assert "0.262" in answer.detail and "0.5" in answer.detail
    write_cube(survey.images / "gri.fits", cube, BANDS="gri")
    answer = read(survey, "gri.fits")
    assert answer.reason == "wrong bands"
    assert "'gri'" in answer.detail and "'grz'" in answer.detail


def test_a_wcs_without_a_scale_says_nothing_of_it(survey) -> None:
    as_fluxes(survey)
    keys = {name: value for name, value in WCS_KEYS.items() if not name.startswith("CD")}
    write_cube(survey.images / "cube.fits", np.ones((3, 64, 64)), **keys)
    assert read(survey, "cube.fits").columns["pixel_scale"] is None


def test_an_image_without_pixels_is_refused(survey) -> None:
    as_fluxes(survey)
    write_cube(survey.images / "nothing.fits", np.ones((3, 32, 0)))
    assert read(survey, "nothing.fits").reason == "unreadable image"


def test_a_damaged_offset_is_a_fault_of_the_image(survey, monkeypatch) -> None:
    def seek_before_start(path: Path) -> None:
        with path.open("rb") as file:
            file.seek(-1)

    monkeypatch.setattr("PIL.Image.open", seek_before_start)
    assert read(survey, "g000.png").reason == "unreadable image"


def test_a_folder_that_went_away_is_no_fault_of_the_image(survey) -> None:
    context = survey.context()
    folder = ImageFolder(context.survey.sources[0], context.survey, context.settings)
    rows = folder.rows().iloc[:1]
    (survey.images / "g000.png").unlink()
    assert folder.read(rows)[0].reason == "no image file"
    survey.images.rename(survey.root / "unmounted")
    with pytest.raises(FileNotFoundError):
        folder.read(rows)
