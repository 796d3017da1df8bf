"""Surveys and profiles: the shipped ones are valid, and a wrong key or value is named with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import GalaxyError
from infra.locate import shipped
from infra.profile import FINETUNE_TASKS, FinetuneSettings, PretrainSettings, load_profile
from tasks.ingest.survey import load_survey
from tasks.train.finetune_batches import IMAGE_TASKS
from tasks.train.label_tables import TASK_OF_KIND


@pytest.mark.parametrize("name", shipped("surveys"))
def test_shipped_surveys_are_valid(name: str) -> None:
    assert load_survey(name).name == name


@pytest.mark.parametrize("name", shipped("profiles"))
def test_shipped_profiles_are_valid(name: str) -> None:
    assert load_profile(name).name == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "mine"\nspeed = 3\n', ["speed", "unknown key", "name, description, threads"]),
        ('name = "mine"\n[pretrain]\nepoch = 3\n', ["pretrain.epoch", "unknown key", "epochs, max_steps"]),
        ('name = "mine"\n[pretrain]\nmask_fraction = 1.5\n', ["pretrain.mask_fraction", "1.5", "less than 1"]),
        ('name = "mine"\n[pretrain]\npreset = "huge"\n', ["pretrain.preset", "huge", "nano", "timm:NAME"]),
        ('name = "mine"\n[pretrain]\npreset = "smal"\n', ["pretrain.preset", "smal", "did you mean 'small'?"]),
        ('name = "mine"\n[pretrain]\npreset = "timm:"\n', ["pretrain.preset", "timm:convnext_nano"]),
        ('name = "mine"\n[pretrain]\ncrop = 150\n', ["pretrain.crop", "150", "144 and 152"]),
        ('name = "mine"\n[pretrain]\ncrop = 16\n', ["pretrain.crop", "16", "nearest is 32"]),
        ('name = "mine"\n[pretrain]\ncrop = 152\n', ["`pretrain`", "76 px", "144 and 160"]),
        ('name = "mine"\n[pretrain]\nbinning = 3\n', ["`pretrain`", "42.6667 px", "120 and 144"]),
        ('name = "mine"\n[find_lenses]\ncrop = 72\n', ["find_lenses.crop", "multiple of 32", "64 and 96"]),
        (
            'name = "mine"\n[finetune]\nfixed_shares = { classification = 1, restauration = 1 }\n',
            ["finetune.fixed_shares", "did you mean 'restoration'?", "classification, parameters, restoration, recon"],
        ),
        (
            'name = "mine"\n[finetune]\nreference_scores = { votes = 0.9 }\n',
            ["finetune.reference_scores", "no task 'votes'", "tasks are classification, parameters"],
        ),
        ('description = "x"\n', ["name", "missing"]),
        ("name = mine\n", ["not valid TOML"]),
    ],
)
def test_wrong_profiles_name_key_value_and_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(GalaxyError) as caught:
        load_profile(str(path))
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_profile_knows_the_tasks_that_fine_tuning_has() -> None:
    assert {*FINETUNE_TASKS} == {*TASK_OF_KIND.values(), *IMAGE_TASKS}


@pytest.mark.parametrize("preset", ["nano", "small", "base", "timm:convnext_nano"])
def test_presets_are_ours_or_models_of_timm(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\n[pretrain]\npreset = "{preset}"\n')
    assert load_profile(str(path)).pretrain.preset == preset


@pytest.mark.parametrize(
    "crop, binning", [(128, 1), (152, 1), (160, 1), (224, 1), (256, 1), (512, 1), (512, 4), (128, 4)]
)
def test_what_networks_take_may_be_set(tmp_path: Path, crop: int, binning: int) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\n[pretrain]\ncrop = {crop}\nbinning = {binning}\n')
    assert load_profile(str(path)).pretrain.crop == crop


def test_missing_definitions_name_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(GalaxyError, match=r"unknown survey 'sdss'; shipped are: .*embedded"):
        load_survey("sdss")
    with pytest.raises(GalaxyError, match=r"no file .*absent.toml"):
        load_survey(str(tmp_path / "absent.toml"))


SURVEY = (
    'name = "mine"\nunits = "UNITS"\nbands = BANDS\n'
    '[[sources]]\nkind = "images"\nname = "a"\nfolder = "x"\ncatalogue = "x.csv"\nsurvey_bands = "gri"\n'
)


def test_an_unknown_key_of_a_survey_is_told_the_keys_of_its_own_part(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    survey = SURVEY.replace("UNITS", "rgb").replace("BANDS", '["R", "G", "B"]')
    path.write_text(survey + "seed = 3\n[sources.columns]\nid = 4\n")
    with pytest.raises(GalaxyError) as caught:
        load_survey(str(path))
    columns, source = sorted(str(caught.value).splitlines())
    assert "sources.0.images.columns.id" in columns
    assert columns.endswith("allowed there are object_id, ra, dec, position_unit, file, field")
    assert "sources.0.images.seed" in source
    assert "folder, catalogue, columns" in source
    assert "lens_rate" not in source  # a key of the other kind of source


@pytest.mark.parametrize(
    ("units", "bands", "allowed"),
    [
        ("rgb", ["g", "r", "i"], "must be ['R', 'G', 'B']"),
        ("rgb", ["B", "G", "R"], "must be ['R', 'G', 'B']"),
        ("nanomaggy", ["R", "G", "B"], "three different ones of g, r, i, z"),
        ("nanomaggy", ["z", "r", "g"], "blue to red"),
        ("nanomaggy", ["g", "g", "r"], "different"),
        ("nanomaggy", ["g", "z"], "three"),
        ("nanomaggy", ["g", "r", "i", "z"], "three"),
    ],
)
def test_bands_that_no_model_can_take_are_refused(tmp_path: Path, units: str, bands: list[str], allowed: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SURVEY.replace("UNITS", units).replace("BANDS", str(bands)))
    with pytest.raises(GalaxyError) as caught:
        load_survey(str(path))
    for word in ("`bands`", repr(units), str(bands), allowed):
        assert word in str(caught.value)


def test_any_three_bands_from_blue_to_red_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SURVEY.replace("UNITS", "nanomaggy").replace("BANDS", "['g', 'i', 'z']"))
    assert load_survey(str(path)).bands == ["g", "i", "z"]


def test_a_label_table_must_name_a_source_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nunits = "rgb"\nbands = ["R", "G", "B"]\n'
        '[[sources]]\nkind = "images"\nname = "a"\nfolder = "x"\ncatalogue = "x.csv"\nsurvey_bands = "gri"\n'
        '[[labels]]\nname = "t"\nsource = "b"\nkind = "grade"\ncolumn = "g"\nfeeds = ["lens"]\n'
    )
    with pytest.raises(GalaxyError, match="positive_from"):
        load_survey(str(path))
    path.write_text(path.read_text().replace('column = "g"', 'column = "g"\npositive_from = 1.0\nnegative_to = 0.0'))
    with pytest.raises(GalaxyError, match="names source 'b'"):
        load_survey(str(path))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            'kind = "values"\nvalues = { size = "s" }\nfeeds = ["classification"]',
            ["'values'", "classification", "parameters"],
        ),
        ('kind = "classes"\ncolumn = "c"\nclasses = { 1 = "one" }\nfeeds = ["align"]', ["two different `classes`"]),
        (
            'kind = "grade"\ncolumn = "g"\npositive_from = 1.0\nnegative_to = 2.0\nfeeds = ["lens"]',
            ["`positive_from` 1", "`negative_to` 2"],
        ),
        ('kind = "truth_mask"\ncolumn = "m"\nfeeds = ["lens"]', ["only a simulated source has masks"]),
    ],
    ids=["feeds", "classes", "grade", "mask"],
)
def test_label_tables_that_can_teach_nothing_are_refused(tmp_path: Path, table: str, words: list[str]) -> None:
    path = tmp_path / "mine.toml"
    survey = SURVEY.replace("UNITS", "rgb").replace("BANDS", '["R", "G", "B"]')
    path.write_text(survey + f'[[labels]]\nname = "t"\nsource = "a"\n{table}\n')
    with pytest.raises(GalaxyError) as caught:
        load_survey(str(path))
    for word in words:
        assert word in str(caught.value)


def test_half_a_position_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        SURVEY.replace("UNITS", "rgb").replace("BANDS", '["R", "G", "B"]') + '[sources.columns]\nra = "RA"\n'
    )
    with pytest.raises(GalaxyError, match=r"`ra` is 'RA' and `dec` is None"):
        load_survey(str(path))


def test_a_definition_of_bytes_that_are_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(GalaxyError, match=r"mine.toml: not valid TOML"):
        load_survey(str(path))


def test_what_changes_no_result_changes_no_stage_either() -> None:
    """Fields that say how a machine works, and those that came later and are off, leave a stage's name as it was."""
    plain = PretrainSettings().identity()
    assert not plain.keys() & {"accumulate", "ema_decay", "compile", "processes", "loader_workers"}
    assert {"batch_size", "preset", "learning_rate"} <= plain.keys()
    changed = PretrainSettings(accumulate=4, processes=2, loader_workers=3, compile=True)
    assert changed.identity() == {**plain, "accumulate": 4}
    assert FinetuneSettings(layer_decay=0.75).identity() == {**FinetuneSettings().identity(), "layer_decay": 0.75}
