"""What may not become an input of a model."""

from __future__ import annotations

import pytest

import matinee as mt
from matinee.exceptions import LeakError
from matinee.training import split_inputs


class Said(mt.Fact, key="member", personal=("words",)):
    member: int
    words: str
    stars: int


def test_personal_text_is_no_input_since_a_model_would_outlive_an_erasure() -> None:
    decision = mt.Decision("reply", unit="member", among=["a", "b"])
    kept = mt.Features("member", name="fine", stars=mt.mean(Said.stars))
    refused = mt.Features("member", name="said", last_words=mt.last(Said.words))
    inputs, *_ = split_inputs([kept], decision, None, (), clock=False, action=False)
    assert inputs.unit == ("stars",)
    with pytest.raises(LeakError, match="read Said.words, which is personal text"):
        split_inputs([kept, refused], decision, None, (), clock=False, action=False)
