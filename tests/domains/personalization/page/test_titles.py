"""The catalogue as arrays, and its standing rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.domains.personalization.page import Contract, Layout, Titles
from matinee.domains.personalization.page.kernels import gather
from matinee.domains.personalization.page.relevance import descending
from matinee.domains.personalization.page.titles import LEAST, MOST_ROWS


def frame(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "title": [3 * i + 2 for i in range(n)],
            "genres": [["Drama", "War"] if i % 2 else ["Drama"] for i in range(n)],
            "year": [1980 + i % 20 for i in range(n)],
            "provider": ["Alder" if i % 4 == 0 else None for i in range(n)],
        }
    )


def rows(titles: Titles) -> dict[tuple[str, str], list[int]]:
    return {
        (k, key): titles.members[titles.offsets[r] : titles.offsets[r + 1]].tolist()
        for r, (k, key) in enumerate(zip(titles.kinds, titles.keys, strict=True))
    }


def test_standing_rows_hold_what_they_say() -> None:
    made = Titles.of(frame(80), {2: ["dark"], **{3 * i + 2: ["dark", "dark"] for i in range(1, 20, 2)}})
    found = rows(made)
    assert found["genre", "Drama"] == list(range(80))
    assert found["pair", "Drama|War"] == found["genre", "War"] == list(range(1, 80, 2))
    assert found["era", "War|1990"] == [i for i in range(80) if i % 2 and 10 <= i % 20 < 20]
    assert found["provider", "Alder"] == found["provider", "Alder|Drama"] == list(range(0, 80, 4))
    assert found["mood", "War|dark"] == list(range(1, 20, 2))
    assert ("provider", "Alder|War") not in found  # none
    assert all(len(v) >= LEAST for v in found.values())
    begin, of_title = made.by_title
    for t in range(80):
        assert sorted(of_title[begin[t] : begin[t + 1]].tolist()) == [r for r, v in enumerate(found.values()) if t in v]


def test_bare_titles_and_the_largest_rows_only() -> None:
    bare = Titles.of(pl.DataFrame({"title": [5, 3]}))
    assert bare.ids.tolist() == [3, 5]
    assert bare.kinds == ()
    assert bare.mixes.shape == (2, 0)
    many = Titles.of(pl.DataFrame({"title": range(9000), "provider": [f"p{i % 400:03}" for i in range(9000)]}))
    assert len(many.kinds) == MOST_ROWS


def test_no_titles_or_one_twice_is_refused() -> None:
    with pytest.raises(mt.MatineeError, match="there are no titles yet"):
        Titles.of(frame(0))
    with pytest.raises(mt.MatineeError, match="title == 2 comes twice"):
        Titles.of(pl.concat([frame(1), frame(1)]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-5, 10**7), min_size=1, max_size=30, unique=True), st.lists(st.integers(-9, 10**7 + 9)))
def test_positions_whatever_the_ids(ids: list[int], asked: list[int]) -> None:
    made = Titles.of(pl.DataFrame({"title": ids}))
    index = {t: k for k, t in enumerate(sorted(ids))}
    asked = [*asked, *ids, max(ids) + 1, min(ids) - 1]
    assert made.positions(asked).tolist() == [index.get(t, -1) for t in asked]
    assert made.positions(np.array(["a", "b"])).tolist() == [-1, -1]


def test_a_layout_says_what_is_wrong_with_it() -> None:
    for wrong, message in (
        ({"rows": 41}, r"rows == 41, must be <= 40"),
        ({"columns": 0}, r"columns == 0, must be >= 1"),
        ({"temperature": 0}, r"temperature == 0.0, must be > 0"),
        ({"floor": 1.5}, r"floor == 1.5, must be <= 1"),
        ({"kinds": {"genres": 1}}, r"kind of row == 'genres'.*did you mean 'genre'"),
        ({"rows": 2, "contracts": (Contract("Alder", 2), Contract("Birch", 1))}, "contracts ask for 3 rows"),
    ):
        with pytest.raises(mt.MatineeError, match=message):
            Layout(**wrong)  # type: ignore[arg-type]
    with pytest.raises(mt.MatineeError, match=r"at_most == 1, must be >= at_least == 2"):
        Contract("Alder", 2, 1)


def test_a_layout_comes_back_from_plain_values() -> None:
    import json

    made = Layout(rows=3, kinds={"top": 2.0}, contracts=(Contract("Alder", 1, 2, 3),))
    assert Layout.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.weight("top") == 2.0
    assert made.slots == 60


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 6), st.floats(1e-6, 30.0))
def test_standing_rows_that_are_chosen_hold_what_all_rows_filled_would_hold(seed: int, named: int, steep: float) -> None:
    rng = np.random.default_rng(seed)
    n, count, wide, most = 1500, 60, 40, 10 + named
    common = rng.random(count) ** 3  # some rows have nearly every title, some hardly any
    own = [np.flatnonzero(rng.random(count) < common) for _ in range(n)]
    begin = np.cumsum([0, *map(len, own)]).astype(np.int32)
    of_title = np.concatenate(own).astype(np.int16)
    at = np.where(rng.random(n) < 0.05, -1, rng.permutation(n))
    worth = rng.random(n) ** steep + 1e-9
    order, steps, weight = descending(worth), 0.9 ** np.arange(20), rng.choice([0.0, 0.8, 1.3], count)
    owed = np.arange(count) < named
    lists, lengths, value = np.empty((count, wide), np.int32), np.zeros(count, np.int32), np.zeros(count)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of_title, minlength=count))])
    members = np.repeat(np.arange(n), np.diff(begin))[np.argsort(of_title, kind="stable")]
    gather(order, at, worth, begin, of_title, offsets, members, owed, weight, steps, 4, most, lists, lengths, value)
    full = [[i for i in order.tolist() if at[i] >= 0 and r in own[at[i]]][:wide] for r in range(count)]
    whole = np.array([sum(s * worth[i] for s, i in zip(steps, row, strict=False)) for row in full]) * weight
    whole[[len(row) < 4 for row in full]] = -1.0
    best = np.argsort(-np.where(owed, np.inf, whole), kind="stable")[:most]
    found = np.argsort(-np.where(owed, np.inf, value), kind="stable")[:most]
    assert found[value[found] > 0].tolist() == best[whole[best] > 0].tolist()
    for r in best[whole[best] > 0].tolist():
        assert lists[r, : lengths[r]].tolist() == full[r]
        assert value[r] == pytest.approx(whole[r])
