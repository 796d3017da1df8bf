"""Every class with a symbol can be said in words, and no words mean two classes."""

from __future__ import annotations

from collections import Counter

import pytest

from galaxy_models.prompts import DESCRIPTIONS, TEMPLATES, class_prompts, held_out_prompts
from galaxy_models.symbols import UnknownClassError, known_symbols


def test_symbols_and_sentences_cover_the_same_classes() -> None:
    assert list(DESCRIPTIONS) == known_symbols()


def test_no_description_stands_for_two_classes() -> None:
    counts = Counter(text for descriptions in DESCRIPTIONS.values() for text in descriptions)
    assert {text for text, count in counts.items() if count > 1} == set()


def test_prompts_are_all_templates_of_all_descriptions_but_the_last() -> None:
    prompts = class_prompts("spiral")
    assert len(prompts) == len(set(prompts)) == 3 * len(TEMPLATES)
    assert "this stamp shows a disk galaxy with spiral arms." in prompts


def test_held_out_sentences_are_not_trained_on() -> None:
    trained = {sentence for name in known_symbols() for sentence in class_prompts(name)}
    held_out = {sentence for name in known_symbols() for sentence in held_out_prompts(name)}
    assert len(held_out) == len(known_symbols()) * len(TEMPLATES)
    assert not trained & held_out


def test_other_spellings_have_the_same_sentences() -> None:
    assert class_prompts("completely_round") == class_prompts("round_smooth")


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(UnknownClassError, match="green_pea"):
        class_prompts("green_pea")
