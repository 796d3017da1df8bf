"""Masks and the loss on what they hide."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.lvm import PATCH, GalaxyLVM, LvmConfiguration
from galaxy_models.masking import (
    denormalise_patches,
    fill_hidden,
    masked_errors,
    masked_l1,
    normalise_patches,
    random_masks,
)


def masks(seed: int = 0, **changes: object) -> torch.Tensor:
    arguments = {"count": 6, "height": 64, "width": 64, "patch": 8, "fraction": 0.6, **changes}
    return random_masks(generator=torch.Generator().manual_seed(seed), **arguments)


def test_each_image_hides_the_same_share_in_whole_patches() -> None:
    hidden = masks()
    patches = hidden.view(6, 8, 8, 8, 8).transpose(2, 3).reshape(6, 64, 64)
    assert (patches.all(dim=2) | ~patches.any(dim=2)).all()
    assert (patches.any(dim=2).sum(dim=1) == round(0.6 * 64)).all()


def test_images_of_a_batch_differ_and_the_seed_decides() -> None:
    assert not torch.equal(masks()[0], masks()[1])
    assert torch.equal(masks(), masks())
    assert not torch.equal(masks(), masks(seed=1))


def test_every_patch_is_hidden_as_often() -> None:
    share = masks(count=4000, height=16, width=16, patch=8, fraction=0.5).float().mean(dim=0)
    assert (share - 0.5).abs().max() < 5 * 0.5 / 4000**0.5


def test_something_is_always_hidden_and_something_seen() -> None:
    for fraction in (0.001, 0.999):
        hidden = masks(fraction=fraction, patch=32).flatten(1).float().mean(dim=1)
        assert ((hidden > 0) & (hidden < 1)).all()
    with pytest.raises(ValueError, match="nothing to see"):
        masks(patch=64)


def test_only_hidden_pixels_count() -> None:
    target, hidden = torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hidden[0, :, :8, :8] = True
    hidden[1, :, :, :8] = True
    guess = torch.where(hidden, torch.tensor([0.5, 0.2]).view(2, 1, 1, 1), torch.tensor(99.0)).expand(2, 3, 16, 16)
    assert masked_errors(guess, target, hidden).tolist() == pytest.approx([0.5, 0.2])
    assert float(masked_l1(guess, target, hidden)) == pytest.approx((64 * 0.5 + 128 * 0.2) / 192)


def test_normalised_patches_have_mean_0_and_variance_1_whatever_their_flux() -> None:
    images = torch.rand(2, 3, 16, 16, dtype=torch.double) * torch.tensor([1.0, 1000.0]).view(2, 1, 1, 1)
    patches = normalise_patches(images, 8).view(2, 3, 2, 8, 2, 8).transpose(3, 4).reshape(2, 3, 4, 64)
    assert patches.mean(dim=-1).abs().max() < 1e-6
    assert patches.var(dim=-1, unbiased=False) == pytest.approx(torch.ones(2, 3, 4).numpy(), abs=1e-3)
    assert float(masked_l1(normalise_patches(images, 8), images, torch.ones(2, 1, 16, 16, dtype=bool), 8)) < 1e-6


def test_filling_keeps_what_is_visible() -> None:
    image, hidden = torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., :4] = True
    filled = fill_hidden(image, torch.full_like(image, 1.7), hidden)
    assert torch.equal(filled[..., 4:], image[..., 4:]) and (filled[..., :4] == 1).all()


@pytest.mark.parametrize(("size", "patch"), [(64, 8), (48, 8), (96, 4), (64, 12)])
def test_masks_are_made_of_whole_tokens_of_the_network(size: int, patch: int) -> None:
    """No token is hidden in part, in the padded image of a size that 32 does not divide either."""
    torch.manual_seed(0)
    network = GalaxyLVM(LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (1, 1, 1, 1)))
    hidden = masks(count=2, height=size, width=size, patch=patch)
    padded = network._prepare(torch.rand(2, 3, size, size), hidden)[1]
    assert padded is not None
    share = torch.nn.functional.avg_pool2d(padded.float(), PATCH)
    assert set(share.unique().tolist()) == {0.0, 1.0}
    assert float(share.sum()) * PATCH**2 == float(hidden.sum())


def test_denormalised_patches_are_the_picture_where_it_was_visible() -> None:
    images, hidden = torch.rand(4, 3, 32, 32), masks(count=4, height=32, width=32)
    picture = denormalise_patches(normalise_patches(images, 8), images, hidden, 8)
    torch.testing.assert_close(picture.masked_fill(hidden, 0), images.masked_fill(hidden, 0), atol=1e-5, rtol=0)


def test_a_hidden_patch_gets_level_and_contrast_from_what_is_visible_around_and_from_nothing_else() -> None:
    """A frame whose left half is dark and calm and whose right half is bright and rough."""
    chance = torch.Generator().manual_seed(0)
    side = (torch.arange(48) >= 24).float()
    images = 0.2 + 0.5 * side + (0.01 + 0.04 * side) * torch.randn(1, 3, 48, 48, generator=chance)
    hidden = torch.zeros(1, 1, 48, 48, dtype=torch.bool)
    hidden[..., 16:24, 8:16] = hidden[..., 16:24, 32:40] = True
    structure = torch.randn(1, 3, 48, 48, generator=chance)
    picture = denormalise_patches(structure, images, hidden, 8)
    for left, level, contrast in ((8, 0.2, 0.01), (32, 0.7, 0.05)):
        patch = picture[..., 16:24, left : left + 8]
        assert float(patch.mean()) == pytest.approx(level, abs=0.03)
        assert float(patch.std()) == pytest.approx(contrast, rel=0.4)
    elsewhere = denormalise_patches(structure, images.masked_fill(hidden, 77.0), hidden, 8)
    torch.testing.assert_close(elsewhere, picture)
