"""Pages as a policy of a decision: guards, the log, replay, words, and whatever input comes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import matinee as mt
from matinee.decisions import check_slate, choose
from matinee.domains.personalization.page import Layout, PageModel, Pages, Relevance, Shelf, Titles, shelves
from matinee.domains.personalization.page.words import heading, in_words, reason
from matinee.domains.personalization.recommenders import Histories, Popular
from matinee.policies import KINDS, from_spec
from matinee.times import to_us

from .scenes import DAY, DECISION, NOW, Column, candidates, catalogue, model, request

LAYOUT = Layout(rows=6, columns=5, row_temperature=0.3)
MODEL = model()
CANDIDATES = candidates(MODEL.titles)
IDS = MODEL.titles.ids.tolist()


def decide(made: mt.Policy, asked: mt.Request, among: mt.Candidates = CANDIDATES, seed: int = 0) -> mt.Choice:
    return choose(DECISION, made, asked, among, uniforms=np.random.default_rng(seed).random(1600), policy_name="p@1")


def lawful(choice: mt.Choice, asked: mt.Request, among: mt.Candidates = CANDIDATES) -> None:
    """A page, every slot under the guards, chances that are chances, rows that add up."""
    assert choice.fallback is None
    assert choice.action
    assert check_slate(DECISION, asked, among, choice.action) == []
    assert len(choice.propensities) == len(choice.action)
    assert all(0 < p <= 1 + 1e-12 for p in choice.propensities)
    assert sum(len(row.titles) for row in shelves(choice)) == len(choice.action)
    assert set(choice.action) <= set(choice.candidates)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_logged_is_enough_to_draw_the_page_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = request(rng.choice(IDS, int(rng.integers(0, 30))).tolist(), maturity_limit=12)
    asked.features = {
        **asked.features, "shown_often": {int(i): 3 for i in rng.choice(IDS, 5)},
        "begun": rng.choice(IDS, 2).tolist(), "begun_share": [0.5, 0.95],
        "shown_titles": rng.choice(IDS, 9).tolist(), "shown_shelves": ["picked"] * 4 + ["genre:War"] * 5,
    }  # fmt: skip
    pages = Pages(MODEL, LAYOUT)
    choice = decide(pages, asked, seed=seed)
    lawful(choice, asked)
    where = {i: k for k, i in enumerate(CANDIDATES.ids.tolist())}
    logged = CANDIDATES.take(np.array([where[i] for i in choice.candidates]))
    again = pages.draw(asked, logged, 1600, uniforms=np.random.default_rng(seed).random(1600))
    assert logged.ids[again.picked].tolist() == choice.action
    assert again.chance == pytest.approx(choice.propensities)
    place = {i: k for k, i in enumerate(choice.candidates)}
    walk = np.array([place[a] for a in choice.action])
    walked = pages.draw(replace(asked, context=choice.context), logged, 1600, forced=walk, full=True)
    assert walked.chance == pytest.approx(choice.propensities)
    assert walked.matrix.sum(axis=1) == pytest.approx(np.ones(len(walk)))


def test_seen_titles_stay_away_and_unfinished_ones_come_first() -> None:
    history = IDS[:30]
    asked = request(history)
    asked.features = {**asked.features, "begun": [IDS[40], IDS[41], IDS[40]], "begun_share": [0.2, 0.5, 0.4]}
    choice = decide(Pages(MODEL, LAYOUT), asked)
    lawful(choice, asked)
    rows = shelves(choice)
    allowed = set(CANDIDATES.ids.tolist()) - set(choice.blocked["licence window"])
    assert rows[0].kind == "continue"
    assert list(rows[0].titles) == [t for t in (IDS[40], IDS[41]) if t in allowed]
    again = {t for row in rows if row.kind == "again" for t in row.titles}
    assert set(history) & set(choice.action) <= again


def test_the_rows_of_the_day_hold_what_they_say() -> None:
    starts = np.full((400, 2), to_us(NOW) - 100 * DAY)
    ends = np.full((400, 2), to_us(NOW) + 100 * DAY)
    starts[:10], ends[10:20] = to_us(NOW) - 5 * DAY, to_us(NOW) + 3 * DAY
    starts[15:20, 1], ends[15:20, 1] = to_us(NOW) + 3 * DAY, to_us(NOW) + 90 * DAY  # goes on without a gap
    columns = {**CANDIDATES.columns, "licence.starts": starts, "licence.ends": ends,
               "licence.territory": np.full((400, 2), "*"), "plays_7d": np.arange(400.0)}  # fmt: skip
    layout = Layout(rows=12, columns=10, least=2, kinds={"new": 99.0, "leaving": 98.0, "top": 97.0, "picked": 0.01})
    choice = decide(Pages(MODEL, layout), request(IDS[30:40]), mt.Candidates(CANDIDATES.ids, columns))
    rows = {row.name: list(row.titles) for row in shelves(choice)}
    assert sorted(rows["new"]) == IDS[:10]
    assert sorted(rows["leaving"]) == IDS[10:15]
    assert rows["top"] == IDS[:-11:-1]


def test_because_rows_are_near_to_what_was_watched() -> None:
    history = [IDS[7]]
    choice = decide(Pages(MODEL, Layout(rows=4, columns=5, kinds={"because": 99.0})), request(history))
    row = next(r for r in shelves(choice) if r.kind == "because")
    assert row.key == str(IDS[7])
    near = MODEL.titles.ids[MODEL.near[7][MODEL.near[7] >= 0]].tolist()
    assert set(row.titles) <= set(near)


def test_popularity_has_no_because() -> None:
    histories = Histories.of_sequences([IDS[:20], IDS[10:40]])
    plain = PageModel.fit(Popular().fit(histories), MODEL.titles, histories)
    assert (plain.near == -1).all()
    choice = decide(Pages(plain, LAYOUT), request(IDS[:5]))
    assert "because" not in {row.kind for row in shelves(choice)}


def test_fatigue_and_stability_move_what_they_should() -> None:
    chances = MODEL.chances(IDS[:10])
    tired = request(IDS[:10])
    tired.features = {**tired.features, "shown_often": {IDS[50]: 4}}
    fresh, _ = MODEL.scene(request(IDS[:10]), CANDIDATES, Layout())
    weary, pool = MODEL.scene(tired, CANDIDATES, Layout(fatigue=0.5, depth=30))
    where = int(np.flatnonzero(CANDIDATES.ids[pool] == IDS[50])[0])
    assert weary.worth[where] == pytest.approx(chances[50] * np.exp(-2))
    assert fresh.worth.max() <= chances.max() + 1e-12


def test_a_page_survives_saving(tmp_path: Path) -> None:
    (tmp_path / "front-page" / "1").mkdir(parents=True)
    MODEL.save(tmp_path / "front-page" / "1")
    again = PageModel.load(tmp_path / "front-page" / "1")
    again.name = MODEL.name
    asked = request(IDS[:12])
    assert decide(Pages(again, LAYOUT), asked).action == decide(Pages(MODEL, LAYOUT), asked).action
    built = from_spec(Pages(MODEL, LAYOUT).spec(), {MODEL.name: again}.__getitem__)
    assert built.spec() == Pages(MODEL, LAYOUT).spec()
    assert KINDS["pages"] is Pages
    assert repr(built) == "Pages(front-page@1, 6 x 5, temperature=0.25)"
    (tmp_path / "front-page" / "1" / "page.safetensors").write_bytes(b"short")
    with pytest.raises(mt.MatineeError, match="model front-page@1 is cut short or damaged; train it again"):
        PageModel.load(tmp_path / "front-page" / "1")


def test_too_few_slots_are_said() -> None:
    small = mt.Decision("small", unit="member", among="title", slots=10)
    choice = choose(small, Pages(MODEL, LAYOUT), request([]), CANDIDATES, uniforms=np.zeros(10))
    assert choice.fallback is not None
    assert "slots == 10, must be at least 30" in choice.fallback


# -- whatever comes


class Broken(Column):
    """Scores that are no numbers."""

    kind = "test-broken"

    def scores(self, history: Any) -> np.ndarray:
        return np.full(len(self.titles), np.nan, np.float32)


RNG = np.random.default_rng(5)
INPUTS: dict[str, list[int]] = {
    "nothing": [],
    "one event": [IDS[3]],
    "unknown titles only": [-1, 0, 10**12],
    "some unknown": [-1, IDS[3], 10**12, IDS[4]],
    "the same title over and over": [IDS[3]] * 500,
    "50,000 events": RNG.choice(IDS, 50_000).tolist(),
    "the newest 100 of them all": IDS,
}


@pytest.mark.parametrize("name", INPUTS)
def test_any_history_gets_a_lawful_page(name: str) -> None:
    asked = request(INPUTS[name], maturity_limit=12)
    lawful(decide(Pages(MODEL, LAYOUT), asked), asked)


def test_who_has_seen_everything_may_watch_it_again() -> None:
    small = model(60)
    among = candidates(small.titles)
    seen = [*small.titles.ids.tolist(), *small.titles.ids[7:9].tolist()]
    choice = decide(Pages(small, LAYOUT), request(seen), among)
    lawful(choice, request(seen), among)
    (row,) = shelves(choice)
    assert row.kind == "again"
    assert heading(row, {}) == "Watch it again"
    but_five = decide(Pages(small, LAYOUT), request(seen[5:]), among)
    lawful(but_five, request(seen[5:]), among)
    assert [r.kind for r in shelves(but_five)][1:] == ["again"]
    assert set(shelves(but_five)[0].titles) <= set(seen[:5])


def test_nothing_licensed_is_the_fallback_with_its_reason() -> None:
    ended = {**CANDIDATES.columns, "licence.ends": CANDIDATES.columns["licence.starts"]}
    choice = decide(Pages(MODEL, LAYOUT), request(IDS[:9]), mt.Candidates(CANDIDATES.ids, ended))
    assert choice.action == []
    assert choice.fallback == "every candidate is kept out: licence window"
    nobody = decide(Pages(MODEL, LAYOUT), request(IDS[:9]), CANDIDATES.take(np.array([], np.int64)))
    assert nobody.fallback == "there are no candidates"


def test_a_recommender_that_gives_no_numbers_is_refused_by_name() -> None:
    broken = PageModel(Broken(titles=MODEL.titles.ids), Relevance(), MODEL.titles, MODEL.near, MODEL.popular)
    choice = decide(Pages(broken, LAYOUT), request(IDS[:9]))
    assert choice.fallback is not None
    assert "Broken(400 titles) gave 400 scores that are not finite" in choice.fallback
    assert choice.action == []


def test_columns_that_are_not_numbers_keep_titles_out() -> None:
    columns = {**CANDIDATES.columns, "maturity": np.where(np.arange(400) % 2, np.nan, 0.0), "plays_7d": np.full(400, np.nan)}
    among = mt.Candidates(CANDIDATES.ids, columns)
    asked = request(IDS[:9], maturity_limit=12)
    choice = decide(Pages(MODEL, LAYOUT), asked, among)
    lawful(choice, asked, among)
    assert all(IDS.index(a) % 2 == 0 for a in choice.action)


@pytest.mark.parametrize("shift", [1, 10**6])
def test_a_model_of_another_catalogue_shows_what_is_allowed_here(shift: int) -> None:
    """The catalogue served is not the one trained on: half of it, or all of it, is unknown to the model."""
    ids = CANDIDATES.ids + (3 * 200 if shift == 1 else shift)
    among = mt.Candidates(ids, CANDIDATES.columns)
    asked = request(IDS[:9])
    choice = decide(Pages(MODEL, LAYOUT), asked, among)
    lawful(choice, asked, among)
    assert set(choice.action) <= set(ids.tolist())


def test_a_catalogue_of_one_and_of_two_titles() -> None:
    for n in (1, 2):
        titles = Titles.of(catalogue(n))
        histories = Histories.of_sequences([titles.ids.tolist()])
        tiny = PageModel.fit(Popular().fit(histories), titles, histories)
        asked = request([])
        columns = {k: v[:n] for k, v in CANDIDATES.columns.items()} | {"licence.ends": np.full((n, 1), to_us(NOW) + DAY)}
        among = mt.Candidates(titles.ids, columns)
        lawful(decide(Pages(tiny, Layout(least=1)), asked, among), asked, among)
        assert decide(Pages(tiny, Layout(least=4)), asked, among).fallback is not None


def test_ids_that_are_text_are_shown_as_they_are() -> None:
    among = mt.Candidates(np.array([f"t{i}" for i in range(400)]), CANDIDATES.columns)
    choice = decide(Pages(MODEL, LAYOUT), request(IDS[:9]), among)
    lawful(choice, request(IDS[:9]), among)


# -- words


def test_headings() -> None:
    said = {
        ("continue", ""): "Continue watching", ("picked", ""): "Picked for you", ("top", ""): "Top 10 this week",
        ("new", ""): "New", ("leaving", ""): "Leaving soon", ("genre", "War"): "War", ("pair", "Crime|Drama"): "Crime and Drama",
        ("mood", "Comedy|dark"): "Comedy: dark", ("provider", "Alder|War"): "War from Alder", ("provider", "Alder"): "From Alder",
        ("because", "3"): "Because you watched Heat", ("because", "4"): "Because you watched 4",
    }  # fmt: skip
    assert {k: heading(Shelf(*k, ()), {3: "Heat"}) for k in said} == said
    assert heading(Shelf("picked", "", ()), {}, profiled=False) == "Popular now"
    with pytest.raises(mt.MatineeError, match="kind of row == 'odd'"):
        heading(Shelf("odd", "", ()), {})


def test_reasons_name_what_truly_drove_the_score() -> None:
    history = IDS[:8]
    features = {"played_recently": history}
    named = {t: f"title {t}" for t in IDS}
    for title in IDS[20:40]:
        said = reason(Shelf("picked", "", (title,)), title, features, MODEL.recommender, named)
        drivers = MODEL.recommender.explain(history, title)
        if drivers and drivers[0][1] > 0:
            assert said == f"because you watched title {drivers[0][0]}"
            without = [t for t in history if t != drivers[0][0]]
            at = int(np.searchsorted(MODEL.recommender.titles, title))
            assert MODEL.recommender.scores(without)[at] < MODEL.recommender.scores(history)[at]
        else:
            assert said == "popular with members now"
    assert reason(Shelf("top", "", (5, 8)), 8, {}, MODEL.recommender, named) == "number 2 this week"
    assert reason(Shelf("continue", "", (5,)), 5, {}, MODEL.recommender, named) == "you have not finished it"
    assert reason(Shelf("leaving", "", (5,)), 5, {}, MODEL.recommender, named) == "leaving soon"


def test_a_page_without_profiling_claims_no_taste() -> None:
    asked = request(IDS[:8], profiled=False)
    asked.features = {}
    choice = decide(Pages(MODEL, LAYOUT), asked)
    lawful(choice, asked)
    said = in_words(choice, {"played_recently": IDS[:8]}, MODEL.recommender, lambda ids: {i: f"title {i}" for i in ids})
    assert {row.heading for row in said} & {"Picked for you"} == set()
    assert all("you watched" not in t.reason and "you watched" not in row.heading for row in said for t in row.titles)
