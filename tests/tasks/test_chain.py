"""What a stage's folder depends on, and which stages a survey can run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.errors import GalaxyError
from infra.profile import load_profile
from infra.settings import Settings
from tasks.chain import STAGES, Chain, chosen_stages, open_chain
from tasks.ingest.survey import SurveyDefinition, load_survey

README = Path(__file__).parents[2] / "README.md"


def chain_of(survey: SurveyDefinition, home: Path) -> Chain:
    settings = Settings(home=home, sky=home, mlflow_uri=f"sqlite:///{home}/mlflow.db")
    chain = Chain(survey, load_profile("laptop"), settings)
    chain.folder("ingest").path.mkdir(parents=True, exist_ok=True)
    chain.folder("ingest").finish({"digest": "the same pixels"})
    return chain


def test_other_quality_limits_are_another_preprocess_although_the_pixels_are_the_same(tmp_path: Path) -> None:
    survey = load_survey("embedded")
    stricter = survey.model_copy(update={"quality": survey.quality.model_copy(update={"minimum_snr": 500.0})})
    first, second = chain_of(survey, tmp_path), chain_of(stricter, tmp_path)
    assert first.folder("preprocess").path != second.folder("preprocess").path
    assert first.folder("preprocess").path == chain_of(load_survey("embedded"), tmp_path).folder("preprocess").path


def test_a_stage_whose_input_is_missing_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(GalaxyError, match="pretrain reads stage preprocess, which is not done"):
        chain_of(load_survey("embedded"), tmp_path).folder("pretrain")


def test_the_surveys_of_the_readme_are_valid_and_leave_out_what_they_have_no_labels_for(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(name = \"my_survey\".*?)```", README.read_text(), flags=re.DOTALL)
    path, missing = tmp_path / "my_survey.toml", []
    settings = Settings(home=tmp_path, sky=tmp_path, mlflow_uri="")
    for example in examples:
        path.write_text(example)
        chain = Chain(load_survey(str(path)), load_profile("laptop"), settings)
        missing.append([stage for stage in STAGES if chain.missing_labels(stage)])
    assert missing == [["finetune", "align", "find-lenses"], ["find-lenses"]]  # tiles without labels, labelled pictures


@pytest.mark.parametrize("name", ["bricks", "stein"])
def test_a_survey_with_parameters_alone_is_fine_tuned(name: str, tmp_path: Path, monkeypatch) -> None:
    for variable in ("GALAXY_BRICKS", "GALAXY_CATALOGUE", "GALAXY_STEIN"):
        monkeypatch.setenv(variable, str(tmp_path / "positions.csv"))
    settings = Settings(home=tmp_path, sky=tmp_path, mlflow_uri="")
    chain = Chain(load_survey(name), load_profile("laptop"), settings)
    missing = {stage: chain.missing_labels(stage) for stage in STAGES}
    assert missing["finetune"] == "" and missing["find-lenses"] == "lens"
    chain = Chain(chain.survey.model_copy(update={"labels": []}), chain.profile, settings)
    assert chain.missing_labels("finetune") == "classification or votes or parameters"


def test_stages_are_run_in_the_chains_order_whatever_order_they_are_named_in() -> None:
    assert chosen_stages("infer, ingest") == ("ingest", "infer")
    with pytest.raises(GalaxyError, match="no such stage: digest"):
        chosen_stages("digest")


def test_an_encoder_that_timm_lacks_is_refused_before_the_first_stage(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[pretrain]\npreset = "timm:convnext_nanno"\n')
    with pytest.raises(
        GalaxyError, match=r"profile mine: `pretrain.preset`.*'convnext_nanno'; near it are convnext_nano"
    ):
        open_chain("embedded", str(path))
    path.write_text('name = "mine"\n[pretrain]\npreset = "timm:test_resnet"\n')
    assert open_chain("embedded", str(path)).profile.pretrain.preset == "timm:test_resnet"
