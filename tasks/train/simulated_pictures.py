"""Pictures of simulated galaxies for pre-training: drawn once into a folder, by several processes, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from galaxy_models.simulated_answers import SimulatedPictures
from galaxy_models.simulation.pictures import Picture, draw_picture
from galaxy_models.volunteer_answers import PLACES
from infra.stage_folder import writing_atomic

SEED = 20_111
"""Of the set; no survey definition that is shipped has it, so that no galaxy of theirs is among them."""

PART = 512
CHUNK = 16
MARGIN = 19 / 16
"""Side of a picture over what the network sees: the rest is there to be turned and shifted into sight."""


def simulated_pictures(
    folder: Path, count: int, network_size: int, processes: int, progress: Callable[[int, int, str], None]
) -> SimulatedPictures:
    """The first `count` pictures of the set, from the parts that `folder` has; what lacks is drawn.

    Parameters
    ----------
    network_size
        Side of what the network sees, pixels.
    processes
        That draw.
    progress
        Takes pictures done, all, and a word.
    """
    size = round(network_size * MARGIN)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(first, min(first + PART, count)) for first in range(0, count, PART)]
    paths = [folder / f"pictures-{size}px-{part.start}-{part.stop}.npz" for part in parts]
    missing = [(part, path) for part, path in zip(parts, paths, strict=True) if not path.exists()]
    draw = partial(_drawn, size=size)
    with _drawers(processes if missing else 1) as drawn_by:
        for part, path in missing:
            progress(part.start, count, "drawing simulated galaxies")
            _keep(path, list(drawn_by(draw, part)))
    found = SimulatedPictures(
        torch.empty(count, 3, size, size, dtype=torch.uint8), torch.empty(count, len(PLACES), dtype=torch.float32)
    )
    for part, path in zip(parts, paths, strict=True):
        with np.load(path) as file:
            found.images[part.start : part.stop] = torch.from_numpy(file["images"])
            found.answers[part.start : part.stop] = torch.from_numpy(file["answers"])
    return found


@contextmanager
def _drawers(processes: int) -> Iterator[Callable[..., Iterable[Picture]]]:
    """A `map` that some processes do, or this one."""
    if processes == 1:
        yield map
        return
    processes = min(processes, PART // CHUNK)
    context = get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield partial(pool.map, chunksize=CHUNK)


def _drawn(index: int, size: int) -> Picture:
    return draw_picture(SEED, index, size)


def _keep(path: Path, pictures: list[Picture]) -> None:
    with writing_atomic(path) as file:
        np.savez(
            file,
            images=np.stack([picture.rgb for picture in pictures]),
            answers=np.stack([picture.answers for picture in pictures]),
        )
