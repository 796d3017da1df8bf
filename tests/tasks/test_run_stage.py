"""How a stage's errors are told: what the user can mend as a message, everything else as it is."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from galaxy_models.card import CardError
from galaxy_models.checkpoint import CheckpointError
from galaxy_models.training import BatchTooLargeError, DivergedError
from infra.errors import GalaxyError
from tasks.run_stage import mendable_errors

MENDABLE = (CardError("bands"), CheckpointError("cut"), DivergedError("step 3"), BatchTooLargeError("32"))


@pytest.mark.parametrize(
    "error", [*MENDABLE, OSError(errno.ENOSPC, "no space")], ids=lambda error: type(error).__name__
)
def test_what_a_user_can_mend_is_a_message_that_names_the_stage(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(GalaxyError, match="stage pretrain: ") as told, mendable_errors("pretrain", tmp_path):
        raise error
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError(errno.ENOENT, "gone"), GalaxyError("said already")])
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as told, mendable_errors("pretrain", tmp_path):
        raise error
    assert told.value is error
