"""A stamp dataset as MLflow knows it: where it lies and the digest of its content."""

from __future__ import annotations

from typing import Any

from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source
from mlflow.entities import Dataset, DatasetInput, InputTag

DIGEST_LENGTH = 32  # MLflow allows 36 characters; the source keeps the digest whole


class StampSource(DatasetSource):
    """Address and SHA-256 of a dataset; `mlflow.data.get_source` gives it back."""

    def __init__(self, uri: str, digest: str) -> None:
        self.uri = uri
        self.digest = digest

    @staticmethod
    def _get_source_type() -> str:
        return "galaxy_stamps"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # MLflow asks of every path it meets; ours are always made by name

    @classmethod
    def _resolve(cls, raw_source: Any) -> StampSource:
        raise NotImplementedError("a stamp dataset is named by address and digest")

    def load(self) -> str:
        """The address, to be opened with `StampDataset.open` or `PreparedDataset.open`."""
        return self.uri

    def to_dict(self) -> dict[str, Any]:
        """Address and digest."""
        return {"uri": self.uri, "digest": self.digest}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> StampSource:
        """The reverse of `to_dict`."""
        return cls(source_dict["uri"], source_dict["digest"])


register_dataset_source(StampSource)  # type: ignore[arg-type] # it takes the class, not an instance


def dataset_input(name: str, uri: str, digest: str, context: str) -> DatasetInput:
    """What `MlflowClient.log_inputs` takes; `context` says what the run used the dataset for."""
    source = StampSource(uri, digest)
    entity = Dataset(
        name=name, digest=digest[:DIGEST_LENGTH], source_type=source._get_source_type(), source=source.to_json()
    )
    return DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", context)])
