"""A profile: how large each stage is on one kind of machine. A survey says what, a profile how much."""

from __future__ import annotations

import math
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra.errors import GalaxyError
from infra.locate import locate

Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Base of the profile's parts: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after stages had been named: at their defaults they change no name."""

    manners: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how the machine works, and not what comes out."""

    def identity(self) -> dict[str, Any]:
        """JSON values that a stage's folder is named by."""
        content = self.model_dump(mode="json")
        fields = type(self).model_fields
        unsaid = {name for name in self.later & content.keys() if content[name] == fields[name].default}
        return {name: value for name, value in content.items() if name not in self.manners | unsaid}


class ClusterSettings(Section):
    """Where Dask's work goes."""

    kind: Literal["inline", "local", "address"] = Field(
        "local", description="`inline`: in this process; `local`: worker processes here; `address`: a scheduler."
    )
    workers: int = Field(2, ge=1, le=1024, description="Worker processes of a local cluster.")
    address: str = Field("", description="Scheduler address, such as tcp://10.0.0.5:8786, for kind `address`.")


class IngestSettings(Section):
    """How stamps are stored."""

    shard_stamps: int = Field(256, ge=16, le=4096, multiple_of=16, description="Stamps in a shard.")
    chunk_stamps: int = Field(16, ge=1, le=64, description="Stamps in a chunk of a shard.")


class PreprocessSettings(Section):
    """Splits and duplicates. Quality limits belong to the survey definition."""

    split_cell_order: int = Field(6, ge=0, le=12, description="HEALPix order of the sky cells that are split as one.")
    validation_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of cells for validation.")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="Share of cells for the test.")
    duplicate_radius: float = Field(2.0, ge=0, le=60, description="Objects nearer than this are one, arcsec.")


class TrainingSettings(Section):
    """What every training stage has."""

    later: ClassVar = frozenset({"accumulate", "ema_decay", "layer_decay"})
    manners: ClassVar = frozenset({"compile", "processes", "loader_workers"})

    batch_size: int = Field(64, ge=2, le=4096, description="Stamps in a batch.")
    accumulate: int = Field(1, ge=1, le=4096, description="Batches in a step; 1 makes each batch a step.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Peak of the cosine schedule.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="AdamW weight decay.")
    checkpoint_steps: int = Field(100, ge=1, description="Steps between checkpoints.")
    seed: int = Field(0, ge=0, description="Seed of weights, order and augmentation.")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Validate and keep a moving average of the weights with this decay, such as 0.999; 0: no average.",
    )
    compile: bool = Field(
        False, description="Compile the network with torch.compile, on a CUDA GPU; ignored elsewhere."
    )

    @property
    def stamps_per_step(self) -> int:
        """Stamps that a step learns from."""
        return self.batch_size * self.accumulate


class EpochSettings(TrainingSettings):
    """A training whose length follows from the number of its stamps, up to a limit."""

    epochs: float = Field(4, gt=0, description="Passes over the usable train stamps.")
    max_steps: int = Field(100_000_000, ge=1, description="Stop here even if the epochs are not over.")

    def steps(self, stamps: int) -> int:
        """Steps that a training on so many stamps takes."""
        return min(math.ceil(self.epochs * stamps / self.stamps_per_step), self.max_steps)


class SharedSettings(EpochSettings):
    """A training that several processes can share."""

    processes: int = Field(
        1, ge=1, le=1024, description="Training processes on this machine, one a GPU; they share the batches of a step."
    )

    @model_validator(mode="after")
    def _batches_can_be_shared(self) -> Self:
        if self.accumulate % self.processes:
            raise ValueError(
                f"{self.processes} `processes` cannot share the batches of a step, since `accumulate` is "
                f"{self.accumulate}; make it a multiple"
            )
        return self


PRESETS = ("nano", "small", "base")


def known_preset(preset: str) -> str:
    """`preset` if it is one; whether timm has the model of `timm:NAME` is for those to say who know timm."""
    if preset in PRESETS or re.fullmatch(r"timm:\w[\w.]*", preset):
        return preset
    close = get_close_matches(preset, PRESETS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{hint}presets are nano, small, base, and timm:NAME with a model of timm for the encoder, "
        "such as timm:convnext_nano"
    )


def near_sides(side: int, step: int, smallest: int = 32) -> str:
    """For errors: which multiples of `step` from `smallest` to 512 are next to `side`."""
    largest = 512 // step * step
    around = sorted({min(max(multiple * step, smallest), largest) for multiple in (side // step, -(-side // step))})
    return f"nearest {'are' if len(around) > 1 else 'is'} {' and '.join(map(str, around))}"


def legal_side(step: int) -> AfterValidator:
    """A side that networks take, pixels: a multiple of `step` from 32 to 512."""

    def check(side: int) -> int:
        if side % step or not 32 <= side <= 512:
            raise ValueError(f"must be a multiple of {step} from 32 to 512; {near_sides(side, step)}")
        return side

    return AfterValidator(check)


Pretext = Literal["masked", "views", "measures", "answers"]


def _paint_and_measure() -> dict[Pretext, float]:
    return {"masked": 1.0, "measures": 1.0}


class PretrainSettings(SharedSettings):
    """The large vision model, without labels."""

    later: ClassVar = SharedSettings.later | {"simulated_pictures"}

    preset: Annotated[str, AfterValidator(known_preset)] = Field(
        "nano",
        description="`nano`, `small`, `base` (about 1 M, 10 M, 100 M parameters), or `timm:NAME`, a timm encoder.",
    )
    crop: Annotated[int, legal_side(8)] = Field(128, description="Central crop of a stamp, pixels.")
    binning: int = Field(2, ge=1, le=4, description="Pixels averaged along each side after the crop.")
    mask_fraction: float = Field(0.6, gt=0, lt=1, description="Share of patches that are masked.")
    mask_patch: int = Field(8, ge=2, le=64, description="Side of a masked patch, pixels of the model's input.")
    pretexts: dict[Pretext, Annotated[float, Field(gt=0, le=100)]] = Field(
        default_factory=_paint_and_measure,
        min_length=1,
        description="Weights of: painting hidden patches, telling two looks at a galaxy from others, measuring it, "
        "telling what volunteers would say of simulated galaxies.",
    )
    simulated_pictures: int = Field(
        10_000, ge=64, le=1_000_000, description="Simulated galaxies that are drawn for the pretext `answers`."
    )
    normalise_target: bool = Field(
        False, description="Masked patches are learnt with mean 0 and variance 1, faint structure like bright cores."
    )
    reobserve: float = Field(
        1.0, ge=0, le=1, description="Share of flux stamps that get reddening, seeing and noise drawn from the survey."
    )
    temperature: float = Field(0.2, gt=0, le=10, description="Of the contrastive loss; small: hard cases count most.")
    loader_workers: int = Field(
        0, ge=0, le=256, description="Processes that read stamps ahead for each training process; 0: it reads itself."
    )

    @model_validator(mode="after")
    def _network_takes_what_is_left(self) -> Self:
        side, rest = divmod(self.crop, self.binning)
        if rest or side % 8 or side < 32:
            crops = near_sides(self.crop, 8 * self.binning, smallest=32 * self.binning)
            raise ValueError(
                f"`crop` {self.crop} and `binning` {self.binning} leave {self.crop / self.binning:g} px for the "
                f"network, which takes multiples of 8 from 32 to 512; of `crop`, {crops}"
            )
        return self


FINETUNE_TASKS = ("classification", "parameters", "restoration", "reconstruction")
"""What fine-tuning may learn; a survey without label tables for parameters leaves them out."""


def known_tasks(by_task: dict[str, float]) -> dict[str, float]:
    """`by_task` if it names tasks alone: which of them a survey trains is not known here, a misspelt name is."""
    for task in by_task:
        if task not in FINETUNE_TASKS:
            close = get_close_matches(task, FINETUNE_TASKS, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"no task {task!r}; {hint}tasks are {', '.join(FINETUNE_TASKS)}")
    return by_task


ByTask = Annotated[dict[str, float], AfterValidator(known_tasks)]

REFERENCE_SCORES = {"classification": 0.9, "parameters": 0.6, "restoration": 0.5, "reconstruction": 0.7}
"""Set by hand, above what short trials on pictures of 64 pixels reached; no measured limits of the tasks."""


class FinetuneSettings(SharedSettings):
    """Four tasks on one encoder; an epoch is as many stamps, of all tasks, as have a label."""

    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak of the cosine schedule, for the heads.")
    epochs: float = Field(28, gt=0, description="Passes over the labelled train stamps.")
    max_steps: int = Field(2800, ge=1, description="Stop here even if the epochs are not over.")
    shares: Literal["adaptive", "equal", "fixed"] = Field("adaptive", description="How steps are shared among tasks.")
    fixed_shares: ByTask = Field(default_factory=dict, description="Share of each task, for `fixed`.")
    evaluate_steps: int = Field(100, ge=1, description="Steps between validations, when shares adapt.")
    reference_scores: ByTask = Field(
        default_factory=lambda: dict(REFERENCE_SCORES),
        description="Validation score at which a task needs nothing more; 1 where not given.",
    )
    share_floor: float = Field(0.2, gt=0, le=1, description="Part of the steps that is always shared equally.")
    share_smoothing: float = Field(0.5, ge=0, lt=1, description="Weight of the old shares in their moving average.")
    encoder_rate: float = Field(0.5, gt=0, le=1, description="Learning rate of the LVM, in units of the heads'.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Each stage of the LVM learns at this part of the next one's rate; 1: all alike."
    )
    weight_mix: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = Field(
        (0.25, 0.5, 0.75, 1.0),
        description="Shares of the way from the first weights to the last; validation keeps one. [1]: the last.",
    )
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="Smoothing of the classes' targets.")
    class_balance: float = Field(0.5, ge=0, le=1, description="0 draws classes as they are, 1 all equally often.")
    votes_weight: float = Field(0.3, ge=0, description="Weight of the vote fractions' loss beside the classes'.")
    supposed_votes: float = Field(20, gt=0, le=1000, description="Volunteers that a fraction without counts is.")
    zoom: float = Field(0.15, ge=0, lt=1, description="Largest relative change of size in augmentation.")
    mask_fraction: float = Field(0.4, gt=0, lt=1, description="Share of patches that is masked in reconstruction.")
    mask_patch: int = Field(8, ge=4, le=64, multiple_of=4, description="Side of a masked patch, network pixels.")
    working_stamps: int = Field(20_000, ge=10, description="Most train stamps of a label table, evenly chosen.")
    image_stamps: int = Field(4000, ge=2, description="Most train stamps of restoration and reconstruction together.")
    validation_stamps: int = Field(128, ge=2, description="Most stamps of a table, or a source, in one validation.")


class AlignSettings(EpochSettings):
    """GalaxAlign: image, symbol and text in one space."""

    image_tower: str = Field(
        "lvm",
        description="`lvm`; a folder with open_clip_config.json and weights; or MODEL=FILE, weights of open_clip.",
    )
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak of each stage's cosine schedule.")
    image_rate: float = Field(1.0, ge=0, le=10, description="Learning rate of the image tower, in units of the rest's.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="For the tower `lvm`: each stage learns at this part of the next one's rate."
    )
    image_text: float = Field(1.0, ge=0, le=100, description="Weight of the loss between images and texts.")
    image_symbol: float = Field(1.0, ge=0, le=100, description="Weight of the loss between images and symbols.")
    symbol_text: float = Field(0.5, ge=0, le=100, description="Weight of the loss between symbols and texts.")
    minimum_class_images: float = Field(
        5.0, ge=0, description="A table with fewer train stamps a class trains nothing, but tests words and symbols."
    )
    working_stamps: int = Field(20_000, ge=10, description="Most train stamps of a label table, evenly chosen.")
    stage1_steps: int = Field(
        100, ge=0, description="Steps of stage 1: symbols and texts find each other; the image tower is frozen."
    )
    epochs: float = Field(16, gt=0, description="Passes over the labelled train stamps in stage 2: all modalities.")
    max_steps: int = Field(250, ge=1, description="Stop stage 2 here even if the epochs are not over.")
    embedding_size: int = Field(128, ge=8, le=2048, description="Dimensions of the common space.")


class FindLensesSettings(TrainingSettings):
    """Mask R-CNN on the LVM's pyramid."""

    batch_size: int = Field(8, ge=2, le=4096, description="Stamps in a step; half of them have a lens.")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Peak of the cosine schedule.")
    steps: int = Field(400, ge=1, description="Training steps.")
    crop: Annotated[int, legal_side(32)] = Field(96, description="Central crop of a stamp, pixels, not binned.")
    proposals: int = Field(32, ge=4, le=2000, description="Region proposals that reach the box head.")
    encoder_rate: float = Field(0.3, gt=0, le=1, description="Learning rate of the LVM, in units of the heads'.")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Each stage of the LVM learns at this part of the next one's rate; 1: all alike."
    )
    simulated_lenses: int = Field(400, ge=10, description="Different arcs that are put onto train stamps.")
    working_stamps: int = Field(1000, ge=10, description="Most stamps of a table and class in memory, evenly chosen.")
    test_scenes: int = Field(80, ge=4, le=10_000, description="Test stamps for boxes and masks; half get an arc.")


class InferSettings(Section):
    """The pass over the whole dataset."""

    later: ClassVar = frozenset({"bf16"})
    manners: ClassVar = frozenset({"compile"})

    batch_size: int = Field(128, ge=1, le=8192, description="Stamps in a forward pass.")
    neighbours: int = Field(10, ge=1, le=1000, description="Nearest neighbours that precision is measured on.")
    bf16: bool = Field(
        False, description="Encode in bfloat16 on a GPU: twice as fast, answers differ in the third digit."
    )
    compile: bool = Field(
        False, description="Compile the networks with torch.compile, on a CUDA GPU; ignored elsewhere."
    )
    lens_sheet: int = Field(48, ge=1, le=1000, description="Stamps on the picture of the lens list.")


class Profile(Section):
    """How large every stage is on one kind of machine."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Name, as in `galaxy run --profile NAME`.")
    description: str = Field("", description="For what machine this is.")
    threads: int = Field(2, ge=1, le=1024, description="Threads of a training or inference process on the CPU.")
    cluster: ClusterSettings = ClusterSettings()
    ingest: IngestSettings = IngestSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    pretrain: PretrainSettings = PretrainSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    align: AlignSettings = AlignSettings()
    find_lenses: FindLensesSettings = FindLensesSettings()
    infer: InferSettings = InferSettings()


def load_profile(name_or_file: str) -> Profile:
    """Read a shipped profile by name, or any by path.

    Raises
    ------
    GalaxyError
        If there is none of that name, or a key or value is not allowed; the message names both.
    """
    return parse_toml(locate("profiles", name_or_file), Profile)


def parse_toml(path: Path, model: type[Model]) -> Model:
    """Read a TOML file into `model`; raises GalaxyError with file, key, value and what is allowed."""
    try:
        return model.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GalaxyError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise GalaxyError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise GalaxyError("\n".join(_sentence(path, model, problem) for problem in error.errors())) from None


def _sentence(path: Path, model: type[BaseModel], problem: object) -> str:
    details = dict(problem)  # type: ignore[call-overload]
    key = ".".join(str(part) for part in details["loc"]) or model.__name__
    if details["type"] == "extra_forbidden":
        allowed = ", ".join(_keys(model, details["loc"][:-1]))
        return f"{path}: unknown key `{key}`; remove or correct it; allowed there are {allowed}"
    if details["type"] == "missing":
        return f"{path}: key `{key}` is missing"
    reason = details["msg"].removeprefix("Value error, ")
    if isinstance(details["input"], dict):  # of several keys together; the message names them
        return f"{path}: `{key}`: {reason}"
    return f"{path}: `{key}` is {details['input']!r}: {reason}"


def _keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names of the keys that `model` allows at a place such as ("sources", 0, "images")."""
    models = [model]
    for part in place:
        tagged = [each for each in models if _has_tag(each, part)]
        if len(models) > 1 and tagged:  # of several models, the tag names one
            models = tagged
        elif not isinstance(part, int):
            fields = [each.model_fields[part] for each in models if part in each.model_fields]
            models = [inner for field in fields for inner in _models(field.annotation)]
    return list(dict.fromkeys(name for each in models for name in each.model_fields))


def _has_tag(model: type[BaseModel], tag: int | str) -> bool:
    annotations = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(each) is Literal and get_args(each) == (tag,) for each in annotations)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as list[A | B]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
