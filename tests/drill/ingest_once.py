"""One ingest over a drill's survey, in a process that may be killed: `python -m tests.drill.ingest_once FOLDER STORE`.

Ends with status 0 when the dataset is published, and with 3 and a message where a user would get a message.
"""

from __future__ import annotations

import sys
from pathlib import Path

from infra.errors import GalaxyError
from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.settings import Settings
from tasks.ingest.ingest import ingest
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext


def main(folder: Path, store: str, kind: str) -> int:
    """Run it, saying each finished shard on a line."""
    context = StageContext(
        survey=SurveyDefinition.model_validate_json((folder / "definition.json").read_text()),
        profile=Profile.model_validate(
            {
                "name": "drill",
                "cluster": ClusterSettings(kind="inline" if kind == "inline" else "local", workers=2),
                "ingest": IngestSettings(shard_stamps=16, chunk_stamps=4),
            }
        ),
        settings=Settings(home=folder, sky=folder, store=store, mlflow_uri="unused"),
        folder=folder / "small/ingest-drill",
        upstream={},
        progress=lambda done, total, note="": print(f"{done} of {total}: {note}", flush=True),
        record=lambda step, metrics: None,
    )
    print("start", flush=True)
    try:
        ingest(context)
    except GalaxyError as error:
        print(f"error: {error}", flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
