"""One training loop for every network: exact resume after a kill, one checkpoint file, no surprises.

`fit` is the door. Behind it: what is trained (`objective`), by which numbers (`plan`), Lightning's side of it (`loop`),
and a room each for the optimiser, the moving average, the records, the processes, and what to do when memory ends.
"""

from ..checkpoint import CheckpointError
from ..schedule import rate_at, step_seed
from .errors import BatchTooLargeError, DivergedError, Interrupted
from .fit import fit
from .objective import Batch, Objective
from .optimiser import encoder_groups
from .processes import Processes, this_process
from .records import History, Progress

__all__ = [
    "Batch",
    "BatchTooLargeError",
    "CheckpointError",
    "DivergedError",
    "History",
    "Interrupted",
    "Objective",
    "Processes",
    "Progress",
    "encoder_groups",
    "fit",
    "rate_at",
    "step_seed",
    "this_process",
]
