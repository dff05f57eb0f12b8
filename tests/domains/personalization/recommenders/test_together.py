"""The closed-form autoencoder against plain matrix algebra, and on a checkerboard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domains.personalization.recommenders.worlds import checkerboard, frame

from matinee.domains.personalization.recommenders import Histories, Together
from matinee.domains.personalization.recommenders.together import count_together

histories_ = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=6)


def test_on_a_checkerboard_the_withheld_title_comes_first() -> None:
    rows = checkerboard()
    model = Together().fit(Histories.of(rows))
    histories = Histories.of(rows)
    for i, member in enumerate(histories.members.tolist()):
        seen = histories.titles[histories.items[histories.offsets[i] : histories.offsets[i + 1]]]
        scores = model.scores(seen.tolist())
        scores[np.isin(model.titles, seen)] = -np.inf
        lacking = [t for t in range(12) if t % 2 == member % 2 and t not in seen]
        assert model.titles[scores.argmax()] == lacking[0]


def test_together_is_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    rows = frame([(m, int(t), k) for m in range(60) for k, t in enumerate(rng.permutation(8)[: rng.integers(2, 7)])])
    histories = Histories.of(rows)
    model = Together().fit(histories)
    n, total = 8, len(histories.items)
    gram, near = np.zeros((n, n)), np.zeros((n, n))
    for i in range(60):
        seen = histories.items[histories.offsets[i] : histories.offsets[i + 1]]
        for x, a in enumerate(seen):
            for y, b in enumerate(seen):
                gram[a, b] += len(seen) ** -0.6
                near[a, b] += len(seen) ** -0.6 * np.exp(-abs(x - y) / 30)
    g = 0.5 * total * (gram / np.trace(gram) + near / np.trace(near))
    lam = 0.33 / 0.67 * np.diag(g) + max(300 * total / 400_000, 1.0)
    want = np.eye(n) - np.linalg.inv(g + np.diag(lam)) @ np.diag(lam)
    np.fill_diagonal(want, 0)
    assert model.weights == pytest.approx(want, abs=2e-4)


@settings(max_examples=40, deadline=None)
@given(histories_)
def test_the_gram_kernel_counts_every_pair_once(sequences: list[list[int]]) -> None:
    items, offsets = np.array([t for s in sequences for t in s]), np.cumsum([0, *(len(s) for s in sequences)])
    power = np.linspace(0.5, 1.0, len(sequences))
    gram, near = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32)
    count_together(items, offsets, power, gram, near)
    want, close = np.zeros((6, 6)), np.zeros((6, 6))
    for s, w in zip(sequences, power, strict=True):
        for x, a in enumerate(s):
            for y, b in enumerate(s[: x + 1]):
                for one, other in {(a, b), (b, a)}:
                    want[one, other] += w
                    close[one, other] += w * np.exp(-(x - y) / 30)
    assert gram == pytest.approx(want, abs=1e-4)
    assert near == pytest.approx(close, abs=1e-4)
