"""What pre-training asks of the network, by the profile: to paint hidden patches, recognise galaxies, measure them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from galaxy_models.augment import Augmentation
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import PATCH, GalaxyLVM
from galaxy_models.measured import Measurement, MeasurementHead
from galaxy_models.pretext import Pretext, Together
from galaxy_models.pretraining import MaskedReconstruction
from galaxy_models.reobserve import Reobservation
from galaxy_models.simulated_answers import SimulatedAnswers, SimulatedPictures, picture_inputs
from galaxy_models.training import Objective, step_seed
from galaxy_models.two_views import ProjectionHead, TwoViews
from infra.errors import GalaxyError
from infra.profile import PretrainSettings

AUGMENTATION = Augmentation()
VIEW_SHIFT = 7.0
"""Two views are shifted more, as in Stein et al. (2021): the place in the frame must not give the galaxy away."""

VIEW_BLUR = 1.0
"""Pixels; views of pictures differ in sharpness, as those of fluxes do by their seeing."""


def augmentation_of(units: str, settings: PretrainSettings) -> Augmentation:
    """How stamps are changed: fluxes get the survey's own noise and reddening, pictures those of a display."""
    if units == "rgb":
        return AUGMENTATION
    chance = settings.reobserve
    if not chance:
        return replace(AUGMENTATION, reddening=0.0, seeing=0.0, depth=0.0)
    return replace(AUGMENTATION, noise=0.0, colour=0.0, reddening=chance, seeing=chance, depth=chance)


def view_augmentation_of(units: str, settings: PretrainSettings) -> Augmentation:
    """The same for views, which are to differ more: what survives it must not tell them."""
    blur = VIEW_BLUR if units == "rgb" else 0.0
    return replace(augmentation_of(units, settings), shift=VIEW_SHIFT, blur=blur)


def pretext_objective(
    network: GalaxyLVM,
    inputs: InputSpec,
    units: str,
    settings: PretrainSettings,
    reobservation: Reobservation | None,
    sample: Tensor,
    pictures: SimulatedPictures | None = None,
) -> Objective:
    """What `fit` trains; the heads' weights depend on the seed alone.

    Parameters
    ----------
    reobservation
        By row of the catalogue; None for pictures.
    sample
        (n, 3, h, w) of train stamps as the network sees them, to standardise the measures with.
    pictures
        For the pretext `answers`, whose `network` has a head for them.
    """
    weights = {str(name): weight for name, weight in settings.pretexts.items()}
    if "masked" not in weights:  # nothing else trains the decoder, and several processes wait for every gradient
        network.requires_grad_(False)
        network.encoder.requires_grad_(True)
        if network.answers is not None:
            network.answers.requires_grad_(True)
        network.encoder.mask_token.requires_grad_(False)
    usual, for_views = augmentation_of(units, settings), view_augmentation_of(units, settings)
    pretexts: dict[str, Pretext] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(settings.seed, -2))
        if "masked" in weights:
            pretexts["masked"] = MaskedReconstruction(
                network,
                inputs,
                units,
                mask_patch=settings.mask_patch,
                mask_fraction=settings.mask_fraction,
                augmentation=usual,
                normalise_target=settings.normalise_target,
                reobservation=reobservation,
            )
        if "views" in weights:
            pretexts["views"] = TwoViews(
                network,
                ProjectionHead(network),
                inputs,
                units,
                augmentation=for_views,
                temperature=settings.temperature,
                reobservation=reobservation,
            )
        if "measures" in weights:
            head = MeasurementHead(network)
            head.set_statistics(sample)
            pretexts["measures"] = Measurement(
                network, head, inputs, units, augmentation=for_views, reobservation=reobservation
            )
        if tells_answers(settings):
            if pictures is None:
                raise ValueError("the pretext `answers` needs simulated pictures, and got none")
            # pictures are binned already, what is drawn in pixels is less of them
            in_pictures = view_augmentation_of("rgb", settings)
            in_pictures = replace(
                in_pictures, shift=in_pictures.shift / inputs.binning, blur=in_pictures.blur / inputs.binning
            )
            pretexts["answers"] = SimulatedAnswers(
                network,
                pictures,
                picture_inputs(inputs, pictures.images.shape[-1]),
                in_pictures,
            )
    return next(iter(pretexts.values())) if len(pretexts) == 1 else Together(pretexts, weights)


def tells_answers(settings: PretrainSettings) -> bool:
    """Whether the network learns what volunteers would say, and so needs a head for it and simulated pictures."""
    return "answers" in settings.pretexts


def check_mask(settings: PretrainSettings, inputs: InputSpec) -> None:
    """Refuse masks that do not fit the network's input; raises GalaxyError with the key and the value."""
    size = inputs.network_size
    if settings.mask_patch % PATCH or settings.mask_patch >= size:
        raise GalaxyError(
            f"profile, section [pretrain]: `mask_patch` is {settings.mask_patch}; it must be a multiple of {PATCH} "
            f"below crop / binning = {size} px"
        )
    if settings.normalise_target and size % settings.mask_patch:
        raise GalaxyError(
            f"profile, section [pretrain]: with `normalise_target`, crop / binning = {size} px must be a multiple of "
            f"`mask_patch`, which is {settings.mask_patch}; take 4, 8 or 16"
        )
