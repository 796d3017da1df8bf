"""What a search looks at is what a catalogue, old or new, and a model have to show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from galaxy_models.lvm import build_lvm
from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.ring_structure import RING_COLUMNS
from galaxy_models.search_view import View
from galaxy_models.volunteer_answers import TOLD_COLUMNS

from .test_morphometry import galaxy


@pytest.mark.parametrize(
    "more", [(), MEASURED_COLUMNS, TOLD_COLUMNS, (*MEASURED_COLUMNS, *RING_COLUMNS, *TOLD_COLUMNS)]
)
def test_all_that_a_catalogue_has_is_looked_at(more: tuple[str, ...]) -> None:
    assert View.among(("object_id", "embedding", *more)).columns == more


def test_measures_are_looked_at_together_or_not_at_all() -> None:
    assert View.among((*MEASURED_COLUMNS, *RING_COLUMNS[1:])) == View(measured=True)


@pytest.mark.parametrize("rings", [False, True])
def test_stamps_show_what_their_columns_do(rings: bool) -> None:
    torch.manual_seed(0)
    network = build_lvm("nano", tells_answers=True).eval()
    stamps = torch.cat([galaxy(0.4, 10.0), galaxy(arms=0.6)])
    view = View(measured=True, rings=rings, told=True)
    with torch.inference_mode():
        seen = view.of_stamps(network, stamps).numpy()
    columns = network.predict_columns(stamps)
    assert seen.shape == (2, network.embedding_size + len(view.columns))
    np.testing.assert_allclose(seen, view.of_columns(columns), rtol=1e-4, atol=1e-4)
