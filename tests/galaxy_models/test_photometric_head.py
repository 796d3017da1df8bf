"""Parameters are learnt from photometry in seconds; where it is unknown, the picture answers."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.photometric_head import PhotometricHead

FEATURES, MEASURES = 6, 4
NAN = float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, MEASURES), and two parameters that follow from them, one on a curve, but for a scatter of 0.3."""
    measured = torch.randn(count, MEASURES, generator=generator(seed)) * torch.tensor([1.0, 5.0, 0.1, 1.0]) + 3
    values = torch.stack([20 - measured[:, 0] - 0.2 * measured[:, 1], (measured[:, 3] - 3) ** 2], dim=1)
    return measured, values + 0.3 * torch.randn(values.shape, generator=generator(seed + 100))


def pictures(count: int, seed: int = 9) -> torch.Tensor:
    return torch.randn(count, FEATURES, generator=generator(seed))


@pytest.fixture
def head() -> PhotometricHead:
    torch.manual_seed(0)
    return PhotometricHead(FEATURES, ("magnitude", "radius"), MEASURES)


def taught(head: PhotometricHead, seed: int = 0) -> PhotometricHead:
    measured, values = rows(800, seed=1)
    head.standardise(values)
    head.learn_photometry(measured, values, generator(seed))
    return head.eval()


def test_photometry_is_learnt_before_any_picture_is_seen(head: PhotometricHead) -> None:
    measured, values = rows(300, seed=2)
    value, sigma = taught(head).predict(torch.cat([pictures(300), measured], dim=1))
    error = value - values
    assert (error.std(dim=0) < 0.4).all() and (values.std(dim=0) > 1.3).all()
    assert 0.6 < float((error.abs() < sigma).float().mean()) < 0.8
    other, _ = head.predict(torch.cat([pictures(300, seed=5), measured], dim=1))
    assert torch.equal(other, value), "the picture has no say yet"


def test_where_fluxes_are_unknown_the_picture_answers(head: PhotometricHead) -> None:
    seen = torch.cat([pictures(4), rows(4, seed=2)[0]], dim=1)
    unknown = seen.clone()
    unknown[1:3, FEATURES:] = NAN
    with torch.no_grad():
        known, mixed = taught(head)(seen), head(unknown)
        alone = head.split(head.layers(seen[:, :FEATURES]))
    for place in (0, 1):
        assert torch.equal(mixed[place][[0, 3]], known[place][[0, 3]])
        assert torch.equal(mixed[place][1:3], alone[place][1:3])
        assert not torch.allclose(known[place][1:3], alone[place][1:3], atol=1e-3)


def test_the_joint_training_teaches_both_answers_and_never_by_what_is_unknown(head: PhotometricHead) -> None:
    seen = torch.cat([pictures(4), rows(4, seed=2)[0]], dim=1)
    seen[0, FEATURES:] = NAN
    values = rows(4, seed=2)[1]
    taught(head).loss(seen, values).backward()
    picture_of_joint = head.joint[0].weight.grad[:, :FEATURES]
    for gradient in (picture_of_joint, head.layers[1].weight.grad, head.joint[-1].weight.grad):
        assert gradient.isfinite().all() and gradient.abs().max() > 0


def test_what_is_learnt_follows_from_the_generator_alone() -> None:
    found = []
    for disturbance in range(2):
        torch.manual_seed(0)
        head = PhotometricHead(FEATURES, ("magnitude", "radius"), MEASURES)
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        found.append(taught(head).state_dict())
        assert torch.equal(torch.get_rng_state(), before), "nobody else's draws change"
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_rows_without_fluxes_or_values_do_not_teach(head: PhotometricHead) -> None:
    measured, values = rows(40, seed=1)
    head.standardise(values)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    head.learn_photometry(torch.full_like(measured, NAN), values, generator())
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    measured[:30] = NAN
    values[35:] = NAN
    head.learn_photometry(measured, values, generator())
    assert all(value.isfinite().all() for value in head.state_dict().values())
