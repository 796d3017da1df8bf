"""The model card: everything that a set of weights needs to be used rightly, as JSON beside them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .inputs import InputSpec

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
SCHEMA_VERSION = 1


class CardError(ValueError):
    """A model card is missing, unreadable, or of a version this code does not know."""


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it eats, what it was made of and how well it does.

    Attributes
    ----------
    name
        Registered name, such as `galaxy-morphology`.
    architecture
        `kind` (`lvm`, `morphology`, `align`, `lens`) and all that rebuilds the network: JSON values.
    inputs
        Units, bands, sizes, pixel scale and stretch.
    training_data
        Dataset digest, survey, split and number of stamps.
    labels
        Label scheme: for each head its table, classes, questions or parameters.
    calibration
        Temperatures, sigma scales and their like, by head, from validation stamps.
    metrics
        Figures on the test split; each name carries its source. How honest a model is say `calibration_error` of
        classes, `coverage` (one sigma) and `coverage_95` of fractions and parameters; `.uncalibrated` is the same
        without the numbers above.
    """

    name: str
    architecture: dict[str, Any]
    inputs: InputSpec
    training_data: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    code_version: str = ""
    schema_version: int = SCHEMA_VERSION

    def save(self, folder: Path) -> None:
        """Write `card.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ModelCard:
        """Read `card.json` from `folder`; raises CardError if it cannot be used."""
        path = folder / CARD_FILE
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise CardError(f"no usable model card at {path}: {error}") from error
        if content.get("schema_version") != SCHEMA_VERSION:
            raise CardError(
                f"{path} has schema version {content.get('schema_version')!r}; this code reads {SCHEMA_VERSION}"
            )
        return cls(**{**content, "inputs": InputSpec.from_dict(content["inputs"])})
