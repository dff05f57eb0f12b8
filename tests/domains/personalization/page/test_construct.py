"""Construction of a page: known answers, exact chances, contracts, limits, dedupe."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.domains.personalization.page import Contract, Layout, Page, Row, Scene, construct
from matinee.domains.personalization.page.construct import stepwise
from matinee.draw import Limit

from .scenes import scene, whole

PLAIN: dict[str, Any] = {
    "rows": 3, "columns": 3, "least": 1, "temperature": 0.01, "floor": 0.0, "calibration": 0.0, "diversity": 1.0,
    "stability": 0.0,
}  # fmt: skip


def plain(**more: Any) -> Layout:
    return Layout(**{**PLAIN, **more})


def grid(page: Page) -> list[list[int]]:
    cuts = np.cumsum([0, *page.lengths])
    return [page.picked[a:b].tolist() for a, b in pairwise(cuts)]


def test_the_best_row_first_its_best_title_first_and_nothing_twice() -> None:
    made = construct(scene([[0, 1], [2, 3], [2, 0, 4]], [0.1, 0.05, 0.9, 0.4, 0.3]), plain(), np.full(9, 0.5))
    assert made.rows == [1, 2, 0]  # .9 and .4, then .3 and .1 (2 is gone), then 1 alone
    assert grid(made) == [[2, 3], [4, 0], [1]]
    assert made.chance == pytest.approx(np.ones(5))
    assert made.row_chance == [1.0, 1.0, 1.0]


def test_a_row_that_has_become_too_short_is_left_out() -> None:
    made = construct(scene([[0, 1], [0, 1, 2]], [0.9, 0.8, 0.7]), plain(least=2), np.full(9, 0.5))
    assert grid(made) == [[0, 1, 2]]


def test_continue_watching_stands_first_in_its_own_order() -> None:
    at = scene([[3, 4, 5], [2, 0, 1]], [0.1, 0.2, 0.05, 0.9, 0.9, 0.9], ["genre", "continue"])
    at.rows[1].ordered = True
    made = construct(at, plain(temperature=5.0, floor=0.5), np.full(9, 0.9))
    assert grid(made)[0] == [2, 0, 1]
    assert made.chance[:3].tolist() == [1.0, 1.0, 1.0]


def test_diversity_lowers_a_second_row_of_the_same_genre() -> None:
    rows = [Row("genre", "War", np.array([0, 1]), genres=("War",)), Row("era", "War|1990", np.array([2, 3]), genres=("War",)),
            Row("new", "", np.array([4, 5])), Row("genre", "Comedy", np.array([6, 7]), genres=("Comedy",))]  # fmt: skip
    at = whole(rows, np.array([0.9, 0.9, 0.8, 0.8, 0.5, 0.5, 0.4, 0.4]), np.zeros((8, 1)), np.zeros(1))
    even = {"era": 1.0, "new": 1.0}
    assert construct(at, plain(kinds=even, rows=4), np.full(12, 0.5)).rows == [0, 1, 2, 3]
    # Another row of War is worth half; so is a row of the same kind as the one above it.
    assert construct(at, plain(diversity=0.5, kinds=even, rows=4), np.full(12, 0.5)).rows == [0, 2, 1, 3]


def test_calibration_fills_what_the_page_lacks() -> None:
    drama, war = [1.0, 0.0], [0.0, 1.0]
    mixes = np.array([drama] * 12 + [war] * 12)
    at = scene([list(range(24))], [0.5] * 12 + [0.4] * 12, mixes=mixes, wanted=np.array([0.5, 0.5]))
    two = [Row("picked", "", np.arange(24)), Row("genre", "a", np.arange(24)), Row("new", "", np.arange(24))]
    at = whole(two, at.worth, mixes, at.wanted)

    def wars(weight: float) -> int:
        made = construct(at, plain(columns=4, calibration=weight), np.full(12, 0.5))
        return int((made.picked >= 12).sum())

    assert wars(0.0) == 0
    assert wars(1.0) >= 4


def test_what_stood_there_on_the_last_visit_stays() -> None:
    at = scene([[0, 1, 2], [3, 4, 5]], [0.5, 0.4, 0.3, 0.52, 0.42, 0.32])
    assert construct(at, plain(rows=1), np.full(3, 0.5)).rows == [1]
    at.last = {"genre:0": np.array([2])}
    stay = construct(at, plain(rows=1, stability=1.0), np.full(3, 0.5))
    assert stay.rows == [0]
    assert grid(stay) == [[2, 0, 1]]


def contract_scene() -> Scene:
    owners = ["", "", "Alder", "Birch", "Alder"]
    rows = [Row("provider" if o else "genre", str(k), np.arange(2) + 2 * k, provider=o) for k, o in enumerate(owners)]
    return whole(rows, np.array([0.9] * 4 + [0.2] * 2 + [0.95] * 2 + [0.1] * 2), np.zeros((10, 1)), np.zeros(1))


@pytest.mark.parametrize(
    ("contracts", "expected"),
    [
        ((), [3, 0, 1]),
        ((Contract("Alder", at_least=1),), [3, 0, 2]),
        ((Contract("Alder", at_least=1, within=1),), [2, 3, 0]),
        ((Contract("Alder", at_least=2),), [3, 2, 4]),
        ((Contract("Birch", at_most=0),), [0, 1, 2]),
        ((Contract("Alder", at_least=1, within=2), Contract("Birch", at_most=0)), [0, 2, 1]),
        ((Contract("Alder", at_least=1, within=2), Contract("Birch", at_least=1, within=2)), [3, 2, 0]),
        ((Contract("Cedar", at_least=1),), [3, 0, 1]),  # there is nothing of theirs to show
    ],
)
def test_contracts_are_kept(contracts: tuple[Contract, ...], expected: list[int]) -> None:
    layout = plain(contracts=contracts, kinds={"provider": 1.0})
    assert construct(contract_scene(), layout, np.full(9, 0.5)).rows == expected


def test_limits_hold_over_the_whole_page() -> None:
    at = scene([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]], [0.9 - 0.05 * i for i in range(10)])
    at.limits = [Limit(np.array([0, 0, 0, 1, 0, 1, 1, 1, -1, -1]), 2)]
    made = construct(at, plain(columns=4), np.full(12, 0.5))
    assert grid(made) == [[0, 1, 3], [5], [8, 9]]


def random_scene(seed: int, *, young: bool = False) -> tuple[Scene, Layout]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 14))
    rows = []
    for k in range(int(rng.integers(1, 6))):
        titles = rng.permutation(n)[: rng.integers(1, n + 1)]
        kind = ["genre", "picked", "because", "continue", "provider"][int(rng.integers(5))]
        rows.append(Row(kind, str(k), titles, ordered=kind == "continue", provider="Alder" if kind == "provider" else ""))
    mixes = rng.dirichlet(np.ones(3), n) * (rng.random((n, 1)) < 0.8)
    limits = [Limit(rng.integers(-1, 3, n), int(rng.integers(1, 4))) for _ in range(int(rng.integers(0, 3)))]
    at = whole(rows, rng.random(n) + 0.01, mixes, rng.dirichlet(np.ones(3)), limits=limits,
               young=rng.random(n) < 0.3 if young else None, share=0.3 if young else 0.0)  # fmt: skip
    layout = Layout(
        rows=int(rng.integers(1, 4)), columns=int(rng.integers(1, 5)), least=int(rng.integers(1, 3)),
        temperature=float(rng.uniform(0.2, 2)), floor=float(rng.choice([0, 0.2])), calibration=float(rng.choice([0, 0.8])),
        row_temperature=float(rng.choice([0, 0.7])), contracts=(Contract("Alder", 0, 1),) if rng.random() < 0.5 else (),
    )  # fmt: skip
    return at, layout


def dense(at: Scene) -> np.ndarray:
    out, (begin, genre, share) = np.zeros((len(at.worth), 3)), at.genres
    for t in range(len(at.worth)):
        out[t, genre[begin[t] : begin[t + 1]]] = share[begin[t] : begin[t + 1]]
    return out


def names(at: Scene, page: Page) -> list[tuple[str, list[int]]]:
    return [(at.rows[r].name, t) for r, t in zip(page.rows, grid(page), strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.booleans())
def test_any_page_keeps_its_promises(seed: int, young: bool) -> None:
    at, layout = random_scene(seed, young=young)
    rng = np.random.default_rng(seed)
    made = construct(at, layout, rng.random(layout.slots), full=True)
    assert len(set(made.picked.tolist())) == len(made.picked)
    assert len(set(made.rows)) == len(made.rows) <= layout.rows
    assert all(n <= layout.columns for n in made.lengths)
    for row, titles in zip(made.rows, grid(made), strict=True):
        assert set(titles) <= set(at.rows[row].titles.tolist())
        least = min(layout.least, layout.columns)
        assert len(titles) >= (1 if at.limits or at.rows[row].kind == "continue" else least)
    for limit in at.limits:
        codes = limit.codes[made.picked]
        assert np.bincount(codes[codes >= 0], minlength=3).max(initial=0) <= limit.limit
    # Every slot's distribution is one, and the chance logged is in it; the first slot of a row carries the row's.
    assert made.matrix.sum(axis=1) == pytest.approx(np.ones(len(made.picked)))
    assert (made.matrix >= 0).all()
    begins = np.cumsum([0, *made.lengths])[:-1]
    for k, title in enumerate(made.picked.tolist()):
        if k not in begins:
            assert made.matrix[k, title] == pytest.approx(made.chance[k], abs=1e-12)
        else:
            assert made.matrix[k, title] >= made.chance[k] - 1e-12
    # Walking the page again gives the same chances, from all titles or only from those that were looked at.
    walked = construct(at, layout, np.zeros(0), forced=names(at, made), full=True)
    assert walked.chance == pytest.approx(made.chance, abs=1e-12)
    assert walked.matrix == pytest.approx(made.matrix, abs=1e-12)
    place = np.full(len(at.worth), -1)
    place[made.among] = np.arange(len(made.among))
    rows = [Row(r.kind, r.key, place[r.titles][place[r.titles] >= 0], r.ordered, r.genres, r.provider) for r in at.rows]
    cut = whole(rows, at.worth[made.among], dense(at)[made.among], at.wanted,
                limits=[Limit(x.codes[made.among], x.limit) for x in at.limits],
                young=None if at.young is None else at.young[made.among], share=at.share)  # fmt: skip
    again = construct(cut, layout, np.random.default_rng(seed).random(layout.slots))
    assert made.among[again.picked].tolist() == made.picked.tolist()
    assert again.chance == pytest.approx(made.chance, abs=1e-12)


def rich_scene(seed: int, draw: st.DrawFn) -> tuple[Scene, Layout]:
    """More rows than the page has, of several genres and parties, with a last visit, worths from one to nothing."""
    rng = np.random.default_rng(seed)
    n, count = int(rng.integers(1, 60)), draw(st.integers(0, 14))
    rows = []
    for k in range(count):
        kind = draw(st.sampled_from(["genre", "picked", "because", "continue", "provider"]))
        rows.append(Row(
            kind, str(k), rng.permutation(n)[: rng.integers(1, n + 1)], ordered=kind == "continue" or rng.random() < 0.1,
            genres=tuple(rng.choice(["War", "Crime", "Drama"], int(rng.integers(0, 3))).tolist()),
            provider=draw(st.sampled_from(["", "Alder", "Birch"])) if kind == "provider" else "",
        ))  # fmt: skip
    worth = draw(st.sampled_from([np.ones(n), rng.random(n) + 0.01, 10.0 ** rng.uniform(-300, 0, n)]))
    last = {row.name: rng.permutation(n)[: rng.integers(0, 5)] for row in rows if rng.random() < 0.3}
    mixes, wanted = rng.dirichlet(np.ones(3), n) * (rng.random((n, 1)) < 0.8), np.array([0.7, 0.3, 0.0])
    mixes, wanted = draw(st.sampled_from([(mixes, wanted), (mixes, np.zeros(3)), (np.zeros((n, 0)), np.zeros(0))]))
    at = whole(
        rows, worth, mixes, wanted, last=last,
        limits=[Limit(rng.integers(-1, 4, n), int(rng.integers(1, 9))) for _ in range(draw(st.integers(0, 2)))],
        young=rng.random(n) < 0.3 if draw(st.booleans()) else None, share=draw(st.sampled_from([0.3, 0.0])),
        budget=draw(st.sampled_from([0, 1, 3, 100])),
    )  # fmt: skip
    layout = Layout(
        rows=draw(st.integers(4, 8)), columns=draw(st.integers(1, 16)), least=draw(st.integers(1, 14)),
        temperature=draw(st.sampled_from([0.01, 0.25, 2.0])), floor=draw(st.sampled_from([0.0, 0.02, 1.0])),
        calibration=draw(st.sampled_from([0.0, 0.5, 3.0])), row_temperature=draw(st.sampled_from([0.0, 0.15])),
        diversity=draw(st.sampled_from([0.0, 0.6, 1.0])), stability=draw(st.sampled_from([0.0, 0.2])),
        depth=draw(st.integers(1, 3)),
        contracts=draw(st.sampled_from([
            (), (Contract("Alder", 1, 2, within=2), Contract("Birch", 0, 1)),
            (Contract("Birch", 2, within=3), Contract("Alder", 2)), (Contract("nobody", 1), Contract("Alder", 0, 0)),
            (Contract("", 1, 1, within=1), Contract("Alder", 1, within=1)),
        ])),
    )  # fmt: skip
    return at, layout


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 100_000), st.data())
def test_the_compiled_page_is_the_stepwise_page(seed: int, data: st.DataObject) -> None:
    at, layout = rich_scene(seed, data.draw)
    uniforms = np.random.default_rng(seed).random(layout.slots)
    made, steps = construct(at, layout, uniforms), stepwise(at, layout, uniforms)
    assert (made.rows, made.lengths, made.row_chance) == (steps.rows, steps.lengths, steps.row_chance)
    assert made.picked.tolist() == steps.picked.tolist()
    assert made.among.tolist() == steps.among.tolist()
    assert made.chance == pytest.approx(steps.chance, rel=1e-12)  # the steps sum what is open in another order


def test_chances_of_all_pages_sum_to_one() -> None:
    rows = [Row("genre", "a", np.array([0, 1])), Row("genre", "b", np.array([1, 2, 3]))]
    at = whole(rows, np.array([0.5, 0.3, 0.2, 0.4]), np.zeros((4, 1)), np.zeros(1))
    layout = Layout(rows=2, columns=2, least=1, temperature=1.0, floor=0.1, row_temperature=1.0, diversity=1.0)

    def every(prefix: list[tuple[str, list[int]]]) -> float:
        """Sum over all complete pages that begin so."""
        total, complete = 0.0, True
        if len(prefix) < 2:
            shown = {t for _, titles in prefix for t in titles}
            for row in rows:
                left = [t for t in row.titles.tolist() if t not in shown]
                if row.name in dict(prefix) or not left:
                    continue
                complete = False
                for titles in permutations(left, min(2, len(left))):
                    total += every([*prefix, (row.name, list(titles))])
        return float(construct(at, layout, np.zeros(0), forced=prefix).chance.prod()) if complete else total

    assert every([]) == pytest.approx(1.0)


def test_drawn_as_often_as_stated() -> None:
    rows = [Row("genre", "a", np.array([0, 1])), Row("genre", "b", np.array([2, 3]))]
    at = whole(rows, np.array([0.5, 0.3, 0.2, 0.4]), np.zeros((4, 1)), np.zeros(1))
    layout = Layout(rows=1, columns=1, least=1, temperature=1.0, floor=0.1, row_temperature=1.0)
    seen = np.zeros(4)
    for u in (np.arange(4000) + 0.5) / 4000:
        made = construct(at, layout, np.array([u]))
        seen[made.picked[0]] += 1 / 4000
    stated = construct(at, layout, np.array([0.5]), full=True).matrix[0]
    assert seen == pytest.approx(stated, abs=2e-3)


@pytest.mark.parametrize(
    ("forced", "expected"),
    [
        ([("genre:9", [0])], [0.0]),  # no such row
        ([("genre:0", [2, 3])], [0.0, 0.0]),  # titles of another
        ([("genre:0", [0])], [0.0]),  # this layout would have shown both
        ([("genre:0", [0, 0])], [0.0, 0.0]),  # twice
        ([("genre:1", [2, 3]), ("genre:0", [0, 1])], [0.0, 0.0, 1.0, 1.0]),  # not the best row first
        ([("genre:0", [0, 1]), ("genre:0", [2, 3])], [1.0, 1.0, 0.0, 0.0]),  # a row twice
    ],
)
def test_a_page_that_this_layout_would_not_have_shown_has_no_chance(
    forced: list[tuple[str, list[int]]], expected: list[float]
) -> None:
    at = scene([[0, 1], [2, 3]], [0.9, 0.8, 0.2, 0.1])
    made = construct(at, plain(columns=2), np.zeros(0), forced=forced, full=True)
    assert made.chance == pytest.approx(expected, abs=1e-4)
    assert made.matrix.shape == (len(expected), 4)


def test_the_young_get_their_share_and_give_it_back_when_they_are_gone() -> None:
    at = scene([[0, 1, 2, 3]], [0.9, 0.8, 0.01, 0.01])
    at.young, at.share = np.array([False, False, True, True]), 0.3
    layout = plain(columns=4, temperature=1.0)
    first = construct(at, layout, np.zeros(4), full=True).matrix[0]
    assert first[2:].sum() == pytest.approx(0.3 + 0.7 * 0.02 / 1.72)
    last = construct(at, layout, np.array([0.99, 0.99, 0.0, 0.5]), full=True)
    assert sorted(last.picked[:2].tolist()) == [2, 3]
    assert last.matrix[2, :2] == pytest.approx([0.9 / 1.7, 0.8 / 1.7])
