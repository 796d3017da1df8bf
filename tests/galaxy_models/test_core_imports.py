"""The networks and their training need torch and its relatives alone, so that they run where little is installed."""

from __future__ import annotations

import subprocess
import sys

ABSENT = ("astropy", "dask", "galsim", "lenstronomy", "mlflow", "open_clip", "prefect", "pyarrow", "sklearn", "zarr")
CORE = (
    *("contrastive", "heads", "lvm", "measured", "multitask", "predictor", "pretraining"),
    *("simulated_answers", "training", "two_views"),
)

SCRIPT = f"""
import sys
from importlib import import_module

sys.modules.update(dict.fromkeys({ABSENT!r}))  # importing them fails
for name in {CORE!r}:
    import_module(f"galaxy_models.{{name}}")
"""


def test_networks_and_training_are_imported_without_the_other_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
