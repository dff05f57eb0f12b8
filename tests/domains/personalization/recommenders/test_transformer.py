"""The transformer, where its extra is installed: it learns a cycle, and is refused in words where it is not."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

import matinee as mt
from matinee.domains.personalization.recommenders import Histories, Transformer
from matinee.domains.personalization.recommenders.conformance import yield_recommender_checks
from matinee.domains.personalization.recommenders.transformer import _batches, _padded

tiny = partial(Transformer, steps=30, width=16, tokens=300)


def cycles(members: int = 60, titles: int = 11) -> Histories:
    return Histories.of_sequences([[(m + k) % titles for k in range(3 + m % 6)] for m in range(members)])


@pytest.mark.parametrize("check", list(yield_recommender_checks()), ids=lambda check: check.__name__)
def test_it_keeps_the_promises_of_a_recommender(check: Any) -> None:
    pytest.importorskip("torch")
    check(tiny, np.random.default_rng(7))


def test_it_learns_a_cycle() -> None:
    pytest.importorskip("torch")
    model = Transformer(steps=150, width=16, tokens=200, rate=1e-2, dropout=0.0).fit(cycles())
    for last in range(11):
        assert model.recommend([(last - 1) % 11, last], 1)[0].tolist() == [(last + 1) % 11]
    # Scores are log-probabilities.
    assert np.exp(model.scores([1, 2])).sum() == pytest.approx(1.0, abs=1e-4)


def test_what_comes_later_has_no_influence() -> None:
    torch = pytest.importorskip("torch")
    net = tiny().fit(cycles())._ready()
    with torch.inference_mode():
        short, long = net(torch.tensor([[1, 2, 3]])), net(torch.tensor([[1, 2, 3, 9, -1]]))
    assert torch.allclose(short, long[:, :3], atol=1e-5)


def test_training_takes_the_planned_time() -> None:
    import time

    pytest.importorskip("torch")
    tiny().fit(cycles())  # what is imported and compiled on first use is not training
    begin = time.process_time()
    Transformer(seconds=1.0, width=16, tokens=300).fit(cycles())
    assert 1.0 <= time.process_time() - begin < 3.0


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(mt.MatineeError, match=r"pip install 'matinee\[torch\]'"):
        tiny().fit(cycles())


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"steps": -1}, {"width": 30}, {"window": 1}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(mt.MatineeError, match="must be"):
        Transformer(**wrong)


def test_batches_hold_every_member_once_and_little_padding() -> None:
    lengths = np.array([9, 1, 5, 5, 30, 2])
    order = np.argsort(lengths, kind="stable")
    batches = list(_batches(order, lengths, 12))
    assert np.concatenate(batches).tolist() == order.tolist()
    assert all(len(b) == 1 or len(b) * lengths[b].max() <= 12 for b in batches)
    assert _padded(np.arange(10), np.array([0, 7]), np.array([2, 3])).tolist() == [[0, 1, -1], [7, 8, 9]]
