"""Parameters of simulated galaxies: our head, with its sigmas, against a Sersic fit on the same stamps.

The papers name parameter extraction and tell no numbers. Parameters, data and measures are ours: magnitude, half-light
radius, axis ratio and Sersic index as the simulator's truth has them, for galaxies that neither lens nor merge. All see
the same stamps; the fit uses fluxes in r with the true PSF and the noise of the sky, the network the viewer's picture
of g, r, z and photometry of their fluxes, without the PSF. Beside it stand the same head's answers from photometry
alone, before the joint training, and from the picture alone, after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_models.aperture_photometry import decentred, decentred_looks
from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.calibration import sigma_scale
from galaxy_models.degradation import SURVEY_PIXEL_SCALE
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import build_lvm
from galaxy_models.multitask import SCALE_OF_PICTURES, HeadScheme, MultiTaskNetwork
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.training import Objective, fit
from tasks.train.finetune_network import PHOTOMETRY_STAMPS
from tasks.train.finetune_objective import unmeasured
from tests.evidence.parameters_tables import ANSWERS, BOTH, FIT, NAMES, PHOTOMETRY, PICTURE, Results, plot, write_tables
from tests.evidence.sersic_fit import SersicFitter
from tests.evidence.simulated import BANDS, Arrays, drawn, observed_stamp, simulated_object
from tests.evidence.workbench import Workbench

FIRST_TRAIN, FIRST_VALIDATION, FIRST_TEST = 3_000_000, 4_000_000, 6_000_000
"""Numbers of the simulated objects: splits share none. The head was made while the 150 from 4,000,000 on and the 80
from 5,000,000 on were looked at."""

TABLE = "shape"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """How much is simulated, trained and measured; the network sees stamps of `size` pixels averaged by `binning`."""

    size: int = 128
    binning: int = 2
    train: int = 1200
    validation: int = 150
    test: int = 80
    batch: int = 32
    steps: int = 250
    seeds: tuple[int, ...] = (0, 1, 2)
    learning_rate: float = 1e-3


SIZES = {
    "small": Sizes(),
    "middle": Sizes(train=4000, validation=300, test=300, steps=600),
    "full": Sizes(binning=1, train=40_000, validation=1000, test=2000, batch=64, steps=12_000, seeds=(0, 1, 2, 3, 4)),
}


def run(bench: Workbench) -> None:
    """Measure all on the same test stamps; keep tables and a picture."""
    sizes = SIZES[bench.size]
    key = {"size": sizes.size, "test": sizes.test, "first": FIRST_TEST}
    classical = bench.cell(lambda: fitted(_stamps(bench, FIRST_TEST, sizes.test, sizes)), method="sersic_fit", **key)
    ours = [
        bench.cell(
            lambda seed=seed: learnt(bench, sizes, seed),  # type: ignore[misc]
            method="ours",
            seed=seed,
            train=sizes.train,
            steps=sizes.steps,
            batch=sizes.batch,
            binning=sizes.binning,
            rate=sizes.learning_rate,
            **key,
        )
        for seed in sizes.seeds
    ]
    test = _stamps(bench, FIRST_TEST, sizes.test, sizes)
    answers_of = {FIT: [classical], **{name: [cell[name] for cell in ours] for name in ANSWERS}}
    galaxies = [simulated_object(number).galaxy for number in range(FIRST_TEST, FIRST_TEST + sizes.test)]
    learnt_from = (
        f"{sizes.test} simulated test galaxies of {sizes.size} px, r of 15.5 to 20; ours learnt from {sizes.train} "
        f"training galaxies in {sizes.steps} steps of {sizes.batch} from random weights, seeds {list(sizes.seeds)}, "
        f"sigmas scaled on {sizes.validation} validation galaxies."
    )
    results = Results(test, galaxies, answers_of, classical["converged"], learnt_from)
    write_tables(bench, results)
    plot(bench, results)


def fitted(stamps: Arrays) -> dict[str, Any]:
    """A fit to each stamp: every parameter (N,), `seconds` of one core per galaxy, and the share that `converged`."""
    r = BANDS.index("r")
    fitter = SersicFitter(stamps["flux"].shape[-1], SURVEY_PIXEL_SCALE)
    started = time.process_time()
    fits = [
        fitter.fit(flux[r], float(noise[r]), float(psf[r]))
        for flux, noise, psf in zip(stamps["flux"], stamps["noise"], stamps["psf_fwhm"], strict=True)
    ]
    seconds = (time.process_time() - started) / len(fits)
    answers = {name: [getattr(each, name) for each in fits] for name in NAMES}
    return {**answers, "seconds": seconds, "converged": float(np.mean([each.converged for each in fits]))}


class Measuring(Objective):
    """Learns the parameters by the product's head, on looks that leave them as they are."""

    def __init__(self, network: MultiTaskNetwork, inputs: InputSpec) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs

    def training_step_at(
        self, step: int, batch: dict[str, Any], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """See `Objective`."""
        looks = augmented_input(batch["images"], "nanomaggy", self.inputs, unmeasured(Augmentation()), generator)
        seen = self.network.see(looks, decentred(batch["images"], generator))
        return self.head.loss(seen, batch["values"]), {}

    @property
    def head(self) -> PhotometricHead:
        """The one head."""
        head = self.network.heads[TABLE]
        assert isinstance(head, PhotometricHead)
        return head

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Decoder and restoration have no part in it."""
        parts = (self.network.lvm.encoder, self.network.norm, self.network.heads)
        return [{"module": part, "learning_rate_scale": 1.0} for part in parts]


def learnt(bench: Workbench, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Train from random weights, calibrate on validation stamps, and answer for the test stamps.

    Returns
    -------
    dict
        For each of `ANSWERS`: every parameter and `<name>_sigma`, (N,), and `seconds` of one core per galaxy.
    """
    train = _stamps(bench, FIRST_TRAIN, sizes.train, sizes)
    inputs = InputSpec(BANDS, sizes.size, sizes.size, sizes.binning, (0.2, 0.3), False)
    images, values = torch.from_numpy(train["flux"]), torch.from_numpy(truth(train))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        schemes = [HeadScheme(TABLE, "simulated", "values", NAMES)]
        network = MultiTaskNetwork(build_lvm("nano"), schemes, photometry_bands=len(BANDS))
    sample = inputs.to_network(images[:256], "nanomaggy")
    network.lvm.set_rgb_statistics(sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)))
    objective = Measuring(network, inputs)
    objective.head.standardise(values)
    generator = torch.Generator().manual_seed(seed)
    looks = decentred_looks(images[:PHOTOMETRY_STAMPS].split(256), generator)
    objective.head.learn_photometry(looks, values[:PHOTOMETRY_STAMPS], generator)
    network.eval()
    found = {PHOTOMETRY: answered(bench, sizes, network, inputs)}
    network.train()

    def batches_from(start: int) -> Iterator[dict[str, Any]]:
        step = start
        while True:
            rows = torch.from_numpy(np.random.default_rng([seed, step]).integers(len(images), size=sizes.batch))
            yield {"images": images[rows], "values": values[rows], "rows": rows}
            step += 1

    fit(
        objective,
        batches_from,
        steps=sizes.steps,
        folder=bench.folder / "training" / f"{seed}-{sizes.steps}-{sizes.train}-{bench.code}",
        checkpoint_steps=max(50, sizes.steps // 10),
        learning_rate=sizes.learning_rate,
        weight_decay=0.05,
        seed=seed,
        threads=torch.get_num_threads(),
    )
    network.cpu().eval()
    for name in (BOTH, PICTURE):
        found[name] = answered(bench, sizes, network, inputs, fluxes_known=name == BOTH)
    return found


def answered(
    bench: Workbench, sizes: Sizes, network: MultiTaskNetwork, inputs: InputSpec, fluxes_known: bool = True
) -> dict[str, Any]:
    """Answers for the test stamps: one of `learnt`'s, with sigmas that are scaled on validation stamps."""
    network.calibration = {}
    validation = _stamps(bench, FIRST_VALIDATION, sizes.validation, sizes)
    scales = _scales(truth(validation), answers(network, inputs, validation, fluxes_known))
    network.calibration = {TABLE: {"sigma_scale" if fluxes_known else SCALE_OF_PICTURES: scales}}
    test = _stamps(bench, FIRST_TEST, sizes.test, sizes)
    started = time.process_time()
    answer = answers(network, inputs, test, fluxes_known)
    seconds = (time.process_time() - started) / sizes.test
    return {**{name: column.astype(float).tolist() for name, column in answer.items()}, "seconds": seconds}


def answers(
    network: MultiTaskNetwork, inputs: InputSpec, stamps: Arrays, fluxes_known: bool
) -> dict[str, NDArray[np.float32]]:
    """The network's columns for all stamps."""
    parts = [
        network.predict_columns(inputs.to_network(flux, "nanomaggy"), flux=flux if fluxes_known else None)
        for flux in torch.from_numpy(stamps["flux"]).split(32)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def truth(stamps: Arrays) -> NDArray[np.float32]:
    """(N, 4) in the order of `NAMES`."""
    return np.stack([stamps[name] for name in NAMES], axis=1)


def _stamps(bench: Workbench, first: int, count: int, sizes: Sizes) -> Arrays:
    return drawn(bench.folder, observed_stamp, first, count, sizes.size)


def _scales(true: NDArray[np.float32], answer: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    return {
        name: sigma_scale(true[:, place], answer[name], answer[f"{name}_sigma"]) for place, name in enumerate(NAMES)
    }
