"""Which stage reads which, where each one's folder is, and whether it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from infra.errors import GalaxyError
from infra.profile import Profile, load_profile
from infra.progress import progress_of
from infra.settings import Settings
from infra.stage_folder import StageFolder
from tasks.ingest.sources import fingerprint
from tasks.ingest.survey import SurveyDefinition, load_survey
from tasks.preprocess.version import MEASURES_VERSION
from tasks.stage import Record, StageContext

READS: Mapping[str, tuple[str, ...]] = {
    "ingest": (),
    "preprocess": ("ingest",),
    "pretrain": ("preprocess",),
    "finetune": ("preprocess", "pretrain"),
    "align": ("preprocess", "pretrain"),
    "find-lenses": ("preprocess", "pretrain"),
    "infer": ("preprocess",),
}
"""Each stage and the stages whose results it reads, in the order of a whole run."""

STAGES = tuple(READS)

LABELS: Mapping[str, tuple[str, ...]] = {
    "finetune": ("classification", "votes", "parameters"),
    "align": ("align",),
    "find-lenses": ("lens",),
}
"""Each stage that cannot do without labels, and the tasks of which a label table must feed one for it."""

MODELS: Mapping[str, str] = {
    "pretrain": "galaxy-lvm",
    "finetune": "galaxy-morphology",
    "align": "galaxy-align",
    "find-lenses": "galaxy-lens-finder",
}
"""Training stage to the registered model that it makes."""


def chosen_stages(text: str) -> tuple[str, ...]:
    """The stages that `text` names ("all", or names with commas), in the order of a whole run.

    Raises
    ------
    GalaxyError
        If a name is not a stage's.
    """
    if text.strip() == "all":
        return STAGES
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(STAGES))
    if unknown or not names:
        raise GalaxyError(
            f"no such stage: {', '.join(unknown) or repr(text)}; stages are {', '.join(STAGES)}, or `all`"
        )
    return tuple(stage for stage in STAGES if stage in names)


@dataclass(frozen=True)
class Chain:
    """One survey run with one profile: all its stages, done or not.

    Attributes
    ----------
    models
        Version of each registered model that `infer` uses, resolved once.
    """

    survey: SurveyDefinition
    profile: Profile
    settings: Settings
    models: Mapping[str, str] = field(default_factory=dict)

    def missing_labels(self, stage: str) -> str:
        """The tasks that no label table of the survey feeds, so that `stage` has nothing to learn; empty if it has."""
        tasks = LABELS.get(stage, ())
        return "" if any(self.survey.tables(task) for task in tasks) else " or ".join(tasks)

    def folder(self, stage: str) -> StageFolder:
        """The folder of `stage` for these inputs.

        Raises
        ------
        GalaxyError
            If a stage that it reads is not done; the message says which command does it.
        """
        return StageFolder(self.settings.stages / self.survey.name, stage, self._inputs(stage))

    def result(self, stage: str) -> dict[str, Any] | None:
        """What `stage` made, or None if it is not done or cannot begin."""
        try:
            return self.folder(stage).result()
        except GalaxyError:
            return None

    def context(self, stage: str, record: Record) -> StageContext:
        """What the stage's work is handed."""
        upstream: dict[str, Mapping[str, Any]] = {name: self._upstream(stage, name) for name in READS[stage]}
        if stage == "infer":
            upstream["models"] = {name: {"version": number} for name, number in self.models.items()}
        return StageContext(
            survey=self.survey,
            profile=self.profile,
            settings=self.settings,
            folder=self.folder(stage).path,
            upstream=upstream,
            progress=progress_of(stage),
            record=record,
        )

    def _inputs(self, stage: str) -> dict[str, Any]:
        inputs: dict[str, Any] = {"code": version("galaxy-lvm")}
        # Quality limits, label tables and what they feed change what a stage does without changing a pixel.
        inputs["survey"] = self.survey.model_dump(mode="json")
        if stage == "ingest":
            inputs["tables"] = fingerprint(self.survey, self.settings)
        else:
            inputs["reads"] = {name: _identity(self._upstream(stage, name)) for name in READS[stage]}
        if stage == "preprocess":
            inputs["measures"] = MEASURES_VERSION
        if stage == "infer":
            inputs["models"] = dict(self.models)
        inputs["settings"] = getattr(self.profile, stage.replace("-", "_")).identity()
        return inputs

    def _upstream(self, stage: str, name: str) -> dict[str, Any]:
        result = self.folder(name).result()
        if result is None:
            raise GalaxyError(
                f"stage {stage} reads stage {name}, which is not done for survey {self.survey.name} with profile "
                f"{self.profile.name}; run `galaxy run --survey ... --profile ... --stages {name}` first"
            )
        return result


def open_chain(survey: str, profile: str, **overrides: Mapping[str, Any]) -> Chain:
    """The chain of a survey and a profile, each a shipped name or the path of a TOML file.

    `overrides` replaces fields of the profile's sections, such as `pretrain={"epochs": 2}`.

    Raises
    ------
    GalaxyError
        If a definition is wrong, or timm has no model that can be the encoder which the profile names: before hours
        of ingest, not after.
    """
    chosen = load_profile(profile)
    for section, fields in overrides.items():
        if fields:
            content = {**getattr(chosen, section).model_dump(), **fields}
            chosen = chosen.model_copy(update={section: type(getattr(chosen, section)).model_validate(content)})
    _check_backbone(chosen)
    return Chain(load_survey(survey), chosen, Settings.from_environment())


def _check_backbone(profile: Profile) -> None:
    _, timm, name = profile.pretrain.preset.partition("timm:")
    if not timm:
        return
    from galaxy_models.timm_encoder import BackboneError, find_backbone  # seconds of import, for those who need it

    try:
        find_backbone(name)
    except BackboneError as error:
        raise GalaxyError(f"profile {profile.name}: `pretrain.preset`: {error}") from None


def _identity(result: Mapping[str, Any]) -> str:
    return str(result.get("weights_digest") or result["digest"])
