"""The multi-task network: columns, calibration, what its decoder tasks may see, the way through card and weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from galaxy_models.card import CardError, ModelCard
from galaxy_models.degradation import Degradation
from galaxy_models.flux_restoration import deconvolve
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork, column_names, describe
from galaxy_models.predictor import load_predictor, save_model

TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)
SCHEMES = (
    HeadScheme("gz2_class", "gz2", "classes", ("spiral", "smooth", "edge_on")),
    HeadScheme("gz2_votes", "gz2", "votes", ("bar", "arms"), (("yes", "no"), ("one", "two", "many"))),
    HeadScheme("efigi_values", "efigi", "values", ("hubble_type", "inclination")),
)


@pytest.fixture
def network() -> MultiTaskNetwork:
    torch.manual_seed(0)
    return MultiTaskNetwork(GalaxyLVM(TINY), SCHEMES).eval()


@pytest.fixture
def rgb() -> torch.Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_columns_are_named_typed_and_sum_to_one(network: MultiTaskNetwork, rgb: torch.Tensor) -> None:
    columns = network.predict_columns(rgb)
    assert list(columns)[:5] == ["p_spiral", "p_smooth", "p_edge_on", "votes_bar_yes", "votes_bar_yes_sigma"]
    assert list(columns)[-2:] == ["inclination", "inclination_sigma"]
    assert {values.shape for values in columns.values()} == {(5,)}
    assert {values.dtype for values in columns.values()} == {np.dtype(np.float32)}
    for names in (
        ("p_spiral", "p_smooth", "p_edge_on"),
        ("votes_bar_yes", "votes_bar_no"),
        ("votes_arms_one", "votes_arms_two", "votes_arms_many"),
    ):
        assert sum(columns[name] for name in names) == pytest.approx(np.ones(5), abs=1e-5)
    assert all((values > 0).all() for name, values in columns.items() if name.endswith("_sigma"))


def test_names_that_two_tables_share_carry_the_table() -> None:
    other = HeadScheme("simulated_class", "simulated", "classes", ("spiral", "ring"))
    names = column_names([*SCHEMES, other])
    assert names["gz2_class"] == ["p_gz2_class_spiral", "p_gz2_class_smooth", "p_gz2_class_edge_on"]
    assert names["simulated_class"] == ["p_simulated_class_spiral", "p_simulated_class_ring"]
    assert names["efigi_values"][0] == "hubble_type"
    flat = [name for table in names.values() for name in table]
    assert len(flat) == len(set(flat))


def test_calibration_divides_logits_and_widens_sigmas(network: MultiTaskNetwork, rgb: torch.Tensor) -> None:
    before = network.predict_columns(rgb)
    network.calibration = {
        "gz2_class": {"temperature": 2.0},
        "gz2_votes": {"sigma_scale": {"bar": 1.5}},
        "efigi_values": {"sigma_scale": {"inclination": 3.0}},
    }
    after = network.predict_columns(rgb)
    ratio = np.log(before["p_spiral"] / before["p_smooth"])
    assert np.log(after["p_spiral"] / after["p_smooth"]) == pytest.approx(ratio / 2, abs=1e-5)
    assert after["votes_bar_yes"] == pytest.approx(before["votes_bar_yes"])
    assert after["votes_bar_yes_sigma"] == pytest.approx(1.5 * before["votes_bar_yes_sigma"])
    assert after["votes_arms_one_sigma"] == pytest.approx(before["votes_arms_one_sigma"]), "a question has its own"
    assert after["inclination_sigma"] == pytest.approx(3 * before["inclination_sigma"])
    assert after["hubble_type_sigma"] == pytest.approx(before["hubble_type_sigma"])


def test_an_untrained_restoration_changes_nothing_and_can_learn(network: MultiTaskNetwork, rgb: torch.Tensor) -> None:
    assert torch.equal(network.restore(rgb), rgb)
    (network.restore(rgb) - 0.5).abs().mean().backward()
    assert network.restoration.last.weight.grad is not None
    assert network.restoration.last.weight.grad.abs().max() > 0


def test_fluxes_untrained_are_deconvolved_and_all_that_is_learnt_keeps_their_sum(network: MultiTaskNetwork) -> None:
    generator = torch.Generator().manual_seed(2)
    flux = torch.rand(4, 3, 32, 32, generator=generator)
    done = Degradation(torch.full((4, 3), 1.5), torch.full((4, 3), 0.02))
    plain = deconvolve(flux, done)
    assert torch.allclose(network.restore_flux(flux, done), plain, rtol=1e-4, atol=1e-5)
    torch.nn.init.normal_(network.restoration.last.weight, std=0.01)
    restored = network.restore_flux(flux, done)
    assert not torch.allclose(restored, plain, atol=1e-3)
    assert torch.allclose(restored.sum(dim=(2, 3)), plain.sum(dim=(2, 3)), rtol=1e-4)


def test_the_reddest_band_is_shown_as_red(network: MultiTaskNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(network, "restore", lambda rgb: shown.append(rgb) or rgb)
    flux = torch.zeros(1, 3, 32, 32)
    flux[:, 2, 12:20, 12:20] = 5.0  # z
    restored = network.restore_flux(flux, Degradation(torch.ones(1, 3), torch.full((1, 3), 0.05)))
    brightest = shown[0].amax(dim=(0, 2, 3))
    assert brightest[0] > 0.3 and brightest[0] > 10 * brightest[1:].max(), "in the range of a picture"
    assert restored[0, 2].max() > 3 and restored[0, :2].abs().max() < 0.1


def test_reconstruction_never_sees_what_is_hidden(network: MultiTaskNetwork, rgb: torch.Tensor) -> None:
    hidden = torch.zeros(5, 1, 32, 32, dtype=torch.bool)
    hidden[:, :, 8:16, 8:16] = True
    with torch.no_grad():
        first = network.reconstruct(rgb, hidden)
        second = network.reconstruct(torch.where(hidden, 1 - rgb, rgb), hidden)
    assert torch.allclose(first, second, atol=1e-6)


def test_every_task_reaches_the_shared_encoder(network: MultiTaskNetwork, rgb: torch.Tensor) -> None:
    torch.nn.init.normal_(network.restoration.last.weight)
    hidden = torch.zeros(5, 1, 32, 32, dtype=torch.bool)
    hidden[:, :, :8] = True
    outputs = network(rgb)
    encoder = network.lvm.encoder.patch_embedding.weight
    results = [outputs["gz2_class"], outputs["gz2_votes"]["bar"], outputs["efigi_values"][0]]
    for result in (*results, network.restore(rgb), network.reconstruct(rgb, hidden)):
        (gradient,) = torch.autograd.grad(result.square().sum(), encoder, retain_graph=True)
        assert gradient.abs().max() > 0


def test_card_and_weights_bring_back_the_same_answers(network: MultiTaskNetwork, tmp_path) -> None:
    network.calibration = {"gz2_class": {"temperature": 1.7}}
    network.heads["efigi_values"].standardise(torch.tensor([[-5.0, 0.0], [9.0, 1.0]]))
    inputs = InputSpec(("g", "r", "z"), 40, 32, 1, (0.2, 0.3), True)
    architecture, labels = describe(network)
    card = ModelCard("galaxy-morphology", architecture, inputs, labels=labels, calibration=network.calibration)
    save_model(tmp_path, card, network)
    images = np.random.default_rng(0).random((3, 3, 40, 40), dtype=np.float32)
    answer = load_predictor(tmp_path).predict(images, "rgb", 0.262)
    expected = network.predict_columns(inputs.to_network(torch.from_numpy(images), "rgb"))
    assert list(answer) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(answer[name], values), name
    ModelCard.load(tmp_path)
    broken = replace(card, labels={"heads": [{**labels["heads"][0], "kind": "riddles"}]})
    save_model(tmp_path / "broken", broken, network)
    with pytest.raises(CardError, match="riddles"):
        load_predictor(tmp_path / "broken")


def test_photometry_reaches_parameters_alone_and_survives_the_way_through_the_card(tmp_path) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(GalaxyLVM(TINY), SCHEMES, photometry_bands=3).eval()
    head = network.heads["efigi_values"]
    head.standardise(torch.tensor([[-5.0, 0.0], [9.0, 1.0]]))
    head.photometry_spread.fill_(5.0)
    inputs = InputSpec(("g", "r", "z"), 40, 32, 1, (0.2, 0.3), True)
    flux = np.random.default_rng(0).random((3, 3, 40, 40), dtype=np.float32)
    white = [flux + np.float32(100), flux + np.float32(100)]
    white[1][:, :, 18:22, 18:22] *= 2  # nothing that a picture shows
    architecture, labels = describe(network)
    save_model(tmp_path, ModelCard("galaxy-morphology", architecture, inputs, labels=labels), network)
    predictor = load_predictor(tmp_path)
    first, second = (predictor.predict(each, "nanomaggy", 0.262) for each in white)
    changed = {name for name in first if np.abs(first[name] - second[name]).max() > 1e-4}
    assert changed == {"hubble_type", "hubble_type_sigma", "inclination", "inclination_sigma"}
    rgb, centre = inputs.to_network(torch.from_numpy(flux), "nanomaggy"), torch.from_numpy(flux[..., 4:-4, 4:-4])
    expected = network.predict_columns(rgb, flux=centre)
    answer = predictor.predict(flux, "nanomaggy", 0.262)
    assert all(np.array_equal(answer[name], values) for name, values in expected.items())
    pictures = predictor.predict(rgb.numpy(), "rgb", 0.262)
    assert all(np.isfinite(values).all() for values in pictures.values()), "pictures are answered for as well"
    assert np.array_equal(pictures["p_spiral"], answer["p_spiral"])
    assert not np.allclose(pictures["inclination"], answer["inclination"], atol=1e-4)


def test_sigmas_have_a_scale_with_fluxes_and_one_without(rgb: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = MultiTaskNetwork(GalaxyLVM(TINY), SCHEMES, photometry_bands=3).eval()
    flux = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    before = [network.predict_columns(rgb, flux=given)["inclination_sigma"] for given in (flux, None)]
    network.calibration = {
        "efigi_values": {"sigma_scale": {"inclination": 2.0}, "sigma_scale_of_pictures": {"inclination": 5.0}}
    }
    after = [network.predict_columns(rgb, flux=given)["inclination_sigma"] for given in (flux, None)]
    assert after[0] == pytest.approx(2 * before[0]) and after[1] == pytest.approx(5 * before[1])


def test_a_card_that_knows_no_photometry_is_rebuilt_as_it_was(network: MultiTaskNetwork, tmp_path) -> None:
    inputs = InputSpec(("g", "r", "z"), 40, 32, 1, (0.2, 0.3), True)
    architecture, labels = describe(network)
    del architecture["photometry_bands"]
    save_model(tmp_path, ModelCard("galaxy-morphology", architecture, inputs, labels=labels), network)
    flux = np.zeros((2, 3, 32, 32), dtype=np.float32)
    assert "inclination" in load_predictor(tmp_path).predict(flux, "nanomaggy", 0.262)


def test_a_table_may_have_the_name_of_a_method(rgb: torch.Tensor) -> None:
    names = ("values", "keys", "parameters", "forward")
    network = MultiTaskNetwork(GalaxyLVM(TINY), [HeadScheme(name, "a", "classes", ("x", "y")) for name in names])
    assert {key.split(".")[1] for key in network.state_dict() if key.startswith("heads.")} == set(names)
    assert network.eval().predict_columns(rgb)["p_forward_x"].shape == (5,)


def test_two_heads_of_one_table_are_refused() -> None:
    with pytest.raises(ValueError, match="gz2_class"):
        MultiTaskNetwork(GalaxyLVM(TINY), (SCHEMES[0], SCHEMES[0]))
