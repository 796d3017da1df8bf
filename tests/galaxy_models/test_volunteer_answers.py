"""What volunteers would say, and the classes that are known by it."""

from __future__ import annotations

import pytest
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import architecture, build_lvm, from_architecture
from galaxy_models.multitask import HeadScheme, MultiTaskNetwork, build, describe
from galaxy_models.pooling import mean_and_spread
from galaxy_models.simulation.questions import QUESTIONS
from galaxy_models.symbols import known_symbols
from galaxy_models.volunteer_answers import (
    LAST_ANSWER,
    PLACES,
    TOLD_COLUMNS,
    AnswersHead,
    answers_loss,
    mean_answers,
    said_by_answers,
    way_to,
)

FIVE = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral")


def said(**answers: str) -> torch.Tensor:
    """(1, answers) of volunteers who all say the same; the questions that are not named get equal chances."""
    chances = torch.cat(
        [
            torch.tensor([float(answer == answers[question]) for answer in choices])
            if question in answers
            else torch.full((len(choices),), 1 / len(choices))
            for question, choices in QUESTIONS.items()
        ]
    )
    return chances[None]


def test_every_class_and_every_answer_is_one_that_there_is() -> None:
    assert set(LAST_ANSWER) <= set(known_symbols())
    assert set(LAST_ANSWER.values()) <= set(PLACES)
    assert way_to(("spiral_winding", "loose")) == (
        ("smooth_or_featured", "featured_or_disk"),
        ("disk_edge_on", "no"),
        ("has_spiral_arms", "yes"),
        ("spiral_winding", "loose"),
    )
    for answer in PLACES:
        assert set(way_to(answer)) <= set(PLACES)


def test_chances_of_classes_are_products_along_the_tree() -> None:
    table = said_by_answers(FIVE)
    assert table is not None
    chances = said(smooth_or_featured="featured_or_disk", disk_edge_on="yes").clamp_min(1e-3)
    classes = (chances.log() @ table).exp()[0]
    assert classes.argmax() == FIVE.index("edge_on_disk")
    assert classes[3] == pytest.approx(1.0)
    assert classes[4] == pytest.approx(1e-3 * 0.5)
    assert said_by_answers(["edge_on_disk", "lens_arc"]) is None, "no volunteer is asked for arcs"
    assert said_by_answers(["edge_on_disk", "no class at all"]) is None


def test_the_loss_is_zero_for_what_was_said_and_does_not_ask_what_nobody_was_asked() -> None:
    smooth = said(smooth_or_featured="smooth", how_rounded="round", merging="none")
    told = smooth.clamp_min(1e-6).log()
    assert float(answers_loss(told, smooth)) == pytest.approx(0, abs=1e-4)
    arms = told.clone()
    places = [place for (question, _), place in PLACES.items() if question == "has_spiral_arms"]
    arms[:, places] = torch.tensor([0.999, 0.001]).log()
    assert torch.equal(answers_loss(arms, smooth), answers_loss(told, smooth)), "nobody was asked for arms"
    both = torch.cat([smooth, said(smooth_or_featured="featured_or_disk", how_rounded="cigar_shaped")])
    rounded = [place for (question, _), place in PLACES.items() if question == "how_rounded"]
    assert mean_answers(both)[rounded].tolist() == [1, 0, 0], "of those who were asked"
    wrong = said(smooth_or_featured="featured_or_disk", how_rounded="round", merging="none").clamp_min(1e-6).log()
    assert float(answers_loss(wrong, smooth)) > 1


def test_a_head_for_known_classes_begins_with_what_is_told_and_survives_its_card() -> None:
    torch.manual_seed(0)
    lvm = build_lvm("nano", tells_answers=True)
    assert isinstance(lvm.answers, AnswersHead)
    schemes = [HeadScheme("known", "", "classes", FIVE), HeadScheme("new", "", "classes", ("ring", "no_ring"))]
    network = MultiTaskNetwork(lvm, schemes).eval()
    rgb = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        pooled = mean_and_spread(lvm.encode(rgb))
        table = said_by_answers(FIVE)
        assert table is not None
        assert torch.allclose(network(rgb)["known"], lvm.tell(pooled) @ table, atol=1e-5)
    content, labels = describe(network)
    card = ModelCard(
        name="test", architecture=content, inputs=InputSpec(("R", "G", "B"), 32, 32, 1, (0.0, 1.0), True),
        training_data={}, metrics={}, code_version="", labels=labels,
    )  # fmt: skip
    again = build(card).eval()
    again.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(again(rgb)["known"], network(rgb)["known"])


def test_a_network_that_tells_answers_publishes_their_chances_beside_the_embedding() -> None:
    lvm = build_lvm("nano", tells_answers=True).eval()
    rgb = torch.rand(2, 3, 32, 32)
    columns = lvm.predict_columns(rgb)
    with torch.inference_mode():
        assert torch.equal(torch.from_numpy(columns["embedding"]), lvm.embed(rgb))
    assert [name for name in columns if name.startswith("told_")] == list(TOLD_COLUMNS)
    edge_on = columns["told_disk_edge_on_yes"] + columns["told_disk_edge_on_no"]
    assert edge_on == pytest.approx([1.0, 1.0])
    assert not set(TOLD_COLUMNS) & set(build_lvm("nano").predict_columns(rgb)), "an untaught one tells nothing"


def test_a_network_that_was_never_taught_says_so_and_is_the_same_as_before() -> None:
    torch.manual_seed(0)
    plain = build_lvm("nano")
    torch.manual_seed(0)
    teller = build_lvm("nano", tells_answers=True)
    with pytest.raises(ValueError, match="pretext `answers`"):
        plain.tell(torch.zeros(1, 2 * sum(plain.channels)))
    weights = teller.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in plain.state_dict().items())
    assert "tells_answers" not in architecture(plain)
    assert from_architecture(architecture(teller)).answers is not None
