"""Of a fine-tuning is kept what validation likes best on the way from the first weights to the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from galaxy_models.multitask import MultiTaskNetwork
from tasks.train import finetune as stage
from tasks.train import finetune_network
from tasks.train.finetune_mix import keep_best_mix
from tests.doubles.labelled_ellipses import context_of, prepared_of

SHARES = (0.25, 0.5, 1.0)


def trained_to(weight: float) -> tuple[MultiTaskNetwork, dict[str, torch.Tensor]]:
    """A network of one weight, which began at zero, and its first weights."""
    network = nn.Linear(1, 1, bias=False)
    first = {"weight": torch.zeros(1, 1)}
    nn.init.constant_(network.weight, weight)
    return cast(MultiTaskNetwork, network), first


def closeness_to(best: float) -> Any:
    return lambda network: {"one": -abs(network.weight.item() - best), "other": 0.0}


@pytest.mark.parametrize(("best", "share"), [(1.9, 0.5), (1.2, 0.25), (7.0, 1.0), (-3.0, 0.25)])
def test_the_share_nearest_to_what_validation_likes_is_kept(best: float, share: float) -> None:
    network, first = trained_to(4.0)
    assert keep_best_mix(network, first, SHARES, closeness_to(best)) == share
    assert cast(nn.Linear, network).weight.item() == 4.0 * share


def test_a_score_that_is_no_number_counts_as_zero() -> None:
    network, first = trained_to(4.0)
    validate = lambda each: {"one": float("nan") if each.weight.item() > 3 else 0.4}  # noqa: E731
    assert keep_best_mix(network, first, SHARES, cast(Any, validate)) == 0.5


def test_among_equals_and_without_validation_the_last_weights_stay() -> None:
    for validate in (lambda _: {"one": 0.3}, lambda _: {}):
        network, first = trained_to(4.0)
        assert keep_best_mix(network, first, SHARES, validate) == 1.0
        assert cast(nn.Linear, network).weight.item() == 4.0


def test_what_leaves_no_choice_is_not_validated() -> None:
    def refuse(_: MultiTaskNetwork) -> dict[str, float]:
        raise AssertionError("validated")

    network, first = trained_to(4.0)
    assert keep_best_mix(network, first, (0.5,), refuse) == 0.5
    assert cast(nn.Linear, network).weight.item() == 2.0


def test_a_task_that_had_no_share_of_the_training_has_no_say(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: prepared_of("rgb"))
    scored: list[set[str]] = []

    def spied(network: MultiTaskNetwork, first: Any, shares: Any, validate: Any) -> float:
        def spying(each: MultiTaskNetwork) -> dict[str, float]:
            scores = validate(each)
            scored.append(set(scores))
            return scores

        return keep_best_mix(network, first, shares, spying)

    monkeypatch.setattr(stage, "keep_best_mix", spied)
    fixed = {"classification": 1.0, "parameters": 1.0, "restoration": 1.0, "reconstruction": 0.0}
    options: dict[str, Any] = {"max_steps": 4, "shares": "fixed", "fixed_shares": fixed, "weight_mix": [0.5, 1.0]}
    result = stage.finetune(context_of(tmp_path, pretrained, **options))
    assert scored == 2 * [{"classification", "parameters", "restoration"}]
    assert result["parameters"]["kept_mix"] in {"0.5", "1"}
    assert result["parameters"]["weight_mix"] == "0.5, 1"


def test_the_model_has_the_weights_of_the_share_that_its_run_tells(
    tmp_path: Path, pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune_network, "open_prepared", lambda context: prepared_of("rgb"))

    def weights(share: float) -> dict[str, torch.Tensor]:
        options: dict[str, Any] = {"max_steps": 4, "evaluate_steps": 4, "weight_mix": [share]}
        result = stage.finetune(context_of(tmp_path / str(share), pretrained, **options))
        assert result["parameters"]["kept_mix"] == f"{share:g}"
        return load_file(Path(result["model"]) / "weights.safetensors")

    first = load_file(pretrained / "weights.safetensors")
    half, last = weights(0.5), weights(1.0)
    trained = [name for name in first if f"lvm.{name}" in last and not torch.equal(first[name], last[f"lvm.{name}"])]
    assert trained
    for name in trained:
        torch.testing.assert_close(half[f"lvm.{name}"], (first[name] + last[f"lvm.{name}"]) / 2)
