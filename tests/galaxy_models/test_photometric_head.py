"""Parameters are learnt from photometry in seconds; where fluxes are unknown, the picture answers."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.ellipticity import turned, turned_at_the_end
from galaxy_models.photometric_head import PhotometricHead
from galaxy_models.seen import Seen

FEATURES, MEASURED = 6, 4
NAN = float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, MEASURED), and two parameters that follow from them, one on a curve, but for a scatter of 0.3."""
    measured = torch.randn(count, MEASURED, generator=generator(seed)) * torch.tensor([1.0, 5.0, 0.1, 1.0]) + 3
    values = torch.stack([20 - measured[:, 0] - 0.2 * measured[:, 1], (measured[:, 3] - 3) ** 2], dim=1)
    return measured, values + 0.3 * torch.randn(values.shape, generator=generator(seed + 100))


def pictures(count: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(count, FEATURES, generator=generator(seed))


@pytest.fixture
def head() -> PhotometricHead:
    torch.manual_seed(0)
    return PhotometricHead(FEATURES, ("magnitude", "radius"), MEASURED)


def taught(head: PhotometricHead) -> PhotometricHead:
    measured, values = rows(800, seed=1)
    head.standardise(values)
    head.eval().learn_photometry(measured[None], values, generator())
    return head


def test_photometry_is_learnt_before_any_picture_is_seen(head: PhotometricHead) -> None:
    measured, values = rows(300, seed=2)
    taught(head)
    with torch.no_grad():
        value, sigma = head.predict(Seen(pictures(300), measured))
        other, _ = head.predict(Seen(pictures(300, seed=5), measured))
    assert not head.training, "it is left as it was"
    error = value - values
    assert (error.std(dim=0) < 0.4).all() and (values.std(dim=0) > 1.3).all()
    assert 0.6 < float((error.abs() < sigma).float().mean()) < 0.8
    assert torch.equal(other, value), "the picture has no say yet"


def directed(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, MEASURED + 2) of galaxies that all lie from south to north, and their e1 and e2."""
    measured, _ = rows(count, seed)
    size = torch.rand(count, 1, generator=generator(seed)) * 0.6
    pair = torch.cat([size, torch.zeros(count, 1)], dim=1)
    return torch.cat([measured, 2 * pair], dim=1), pair


def test_directions_are_learnt_for_every_angle_and_by_nobody_who_is_not_asked_for_them() -> None:
    torch.manual_seed(0)
    head = PhotometricHead(FEATURES, ("e1", "e2"), MEASURED + 2, directions=2)
    measured, values = directed(800, seed=1)
    angle = 180 * torch.rand(800, generator=generator(3))
    head.standardise(turned(values, ("e1", "e2"), angle, south_first=True))
    head.eval().learn_photometry(measured[None], values, generator())
    measured, values = directed(300, seed=2)
    angle = 180 * torch.rand(300, generator=generator(4))
    values = turned(values, ("e1", "e2"), angle, south_first=True)
    seen = Seen(pictures(300), turned_at_the_end(measured, 2, angle, south_first=True))
    with torch.no_grad():
        value, _ = head.predict(seen)
    assert ((value - values).std(dim=0) < 0.3 * values.std(dim=0)).all()
    other = PhotometricHead(FEATURES, ("magnitude",), MEASURED + 2, directions=2)
    assert other.joint[0].in_features == FEATURES + MEASURED
    assert other.predict(seen)[0].shape == (300, 1)


def test_where_fluxes_are_unknown_the_picture_answers(head: PhotometricHead) -> None:
    seen = Seen(pictures(4), rows(4, seed=2)[0])
    with torch.no_grad():
        before, _ = head.eval()(seen.pooled)
    taught(head)
    with torch.no_grad():
        pictured, known = head.predict(seen.of_pictures())[0], head.predict(seen)[0]
    torch.testing.assert_close(pictured, before * head.spread + head.mean)  # photometry taught it nothing
    assert not torch.allclose(known, pictured, atol=1e-3)


def test_the_joint_training_teaches_both_answers(head: PhotometricHead) -> None:
    measured, values = rows(4, seed=2)
    seen = Seen(pictures(4), measured)
    taught(head).loss(seen, values).backward()
    for weight in (head.joint[0].weight, head.joint[-1].weight, head.layers[1].weight):
        assert weight.grad is not None and weight.grad.abs().max() > 0
    assert head.joint[0].weight.grad[:, :FEATURES].abs().max() > 0, "the picture begins to have a say"
    head.zero_grad()
    head.loss(seen.of_pictures(), values).backward()
    assert head.joint[0].weight.grad is None


def test_what_is_learnt_follows_from_the_generator_alone() -> None:
    found = []
    for disturbance in range(2):
        torch.manual_seed(0)
        head = PhotometricHead(FEATURES, ("magnitude", "radius"), MEASURED)
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        found.append(taught(head).state_dict())
        assert torch.equal(torch.get_rng_state(), before), "nobody else's draws change"
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_missing_values_do_not_teach(head: PhotometricHead) -> None:
    measured, values = rows(40, seed=1)
    values[:20] = NAN
    values[30:, 1] = NAN
    head.standardise(values)
    head.learn_photometry(measured[None], values, generator())
    assert all(value.isfinite().all() for value in head.state_dict().values())
    assert all(parameter.grad is None for parameter in head.parameters())
