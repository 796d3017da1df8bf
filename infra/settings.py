"""Where a run keeps what it makes, and which services it talks to. Read once, from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import make_url

from infra.errors import GalaxyError
from infra.remote import is_url

HOME_VARIABLE = "GALAXY_HOME"
SKY_VARIABLE = "GALAXY_SKY"
STORE_VARIABLE = "GALAXY_STORE"
LABELS_VARIABLE = "GALAXY_LABEL_DATABASE"
LABELS_PASSWORD_VARIABLE = "GALAXY_LABEL_PASSWORD_FILE"


class Settings(BaseModel):
    """Paths and addresses of one installation.

    `Settings.from_environment()` is the only reader of environment variables, so that a run can
    be described by this object alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(description="Folder of everything the pipeline makes (GALAXY_HOME).")
    sky: Path = Field(description="Folder of real images for the survey `real_sky` (GALAXY_SKY).")
    store: str = Field("", description="Folder or URL of the stamps, such as s3://bucket/stamps; in `home` if empty.")
    mlflow_uri: str = Field(description="MLflow tracking and registry address (MLFLOW_TRACKING_URI).")
    label_database: str = Field("", description="SQLAlchemy URL of the label app's database; in `home` if empty.")
    label_password_file: Path | None = Field(
        None, description="File that holds the password of that database, which then is not in its URL."
    )

    @classmethod
    def from_environment(cls) -> Settings:
        """Read MLFLOW_TRACKING_URI and the variables named above; each has a default, beside this folder."""
        home = Path(os.environ.get(HOME_VARIABLE, "galaxy-data")).expanduser().resolve()
        sky = Path(os.environ.get(SKY_VARIABLE, "../shared/sky")).expanduser().resolve()
        mlflow_uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
        store = os.environ.get(STORE_VARIABLE, "").rstrip("/")
        if store and not is_url(store):
            store = str(Path(store).expanduser().resolve())
        label_database = os.environ.get(LABELS_VARIABLE, "")
        password_file = os.environ.get(LABELS_PASSWORD_VARIABLE, "")
        return cls(
            home=home,
            sky=sky,
            store=store,
            mlflow_uri=mlflow_uri,
            label_database=label_database,
            label_password_file=Path(password_file) if password_file else None,
        )

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder of MLflow's artifacts when no server serves them."""
        return self.home / "mlflow" / "artifacts"

    @property
    def stages(self) -> Path:
        """Folder with one folder per survey, and in it one per stage and key."""
        return self.home / "stages"

    @property
    def catalogues(self) -> Path:
        """Folder of published catalogues."""
        return self.home / "catalogues"

    @property
    def label_database_url(self) -> str:
        """Where the label app keeps searches, votes and accounts.

        Raises
        ------
        GalaxyError
            If the file of the password cannot be read.
        """
        url = self.label_database or f"sqlite:///{self.home / 'label' / 'label.db'}"
        if self.label_password_file is None:
            return url
        try:
            password = self.label_password_file.read_text().strip()
        except OSError as error:
            raise GalaxyError(
                f"{LABELS_PASSWORD_VARIABLE}: {self.label_password_file} cannot be read: {error.strerror}"
            ) from None
        return make_url(url).set(password=password).render_as_string(hide_password=False)
